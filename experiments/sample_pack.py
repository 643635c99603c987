"""The old name of `python -m experiments.sample_batches`."""

from experiments.sample_batches.commands import main

if __name__ == "__main__":
    main()
