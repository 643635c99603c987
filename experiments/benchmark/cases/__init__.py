"""The families of the benchmark, a module each, whose cases appear in the table of `experiments.benchmark`.

A module has one function, `cases() -> list[experiments.benchmark.steps.Case]`. It is cheap to call: it builds networks
and random data, and compiles nothing.
"""
