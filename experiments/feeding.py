"""Alias of `python -m experiments.benchmark.throughput`, as its command is called in jaxgen 0.1.0."""

from experiments.benchmark.throughput import main

if __name__ == "__main__":
    main()
