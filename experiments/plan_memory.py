"""Alias of `python -m experiments.benchmark.memory`, as its command is called in jaxgen 0.1.0."""

from experiments.benchmark.memory import main

if __name__ == "__main__":
    main()
