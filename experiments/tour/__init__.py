"""A tour of all chapters on one page: `python -m experiments.tour`."""
