"""HTML pages about runs: `python -m experiments.report`."""
