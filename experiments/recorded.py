"""Alias of `python -m experiments.verify.golden_runs`, as its command is called in jaxgen 0.1.0."""

from experiments.verify.golden_runs import main

if __name__ == "__main__":
    main()
