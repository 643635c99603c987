"""The command `python -m experiments.benchmark`, see `experiments.benchmark.speed`."""

from experiments.benchmark.speed import main

if __name__ == "__main__":
    main()
