"""The families of the benchmark, a module each: what it lists appears in the table of `experiments.benchmark`.

A module has one function, `cases() -> list[experiments.timing.Case]`. Cheap to call: it builds networks and random
data, and compiles nothing.
"""
