"""Alias of `python -m experiments.verify.crash_test`, as its command is called in jaxgen 0.1.0."""

from experiments.verify.crash_test import main

if __name__ == "__main__":
    main()
