"""Measurements of speed, throughput and memory.

`python -m experiments.benchmark` times every family's steps, `experiments.benchmark.throughput` the reading of images,
and `experiments.benchmark.memory` estimates what training a published network needs.
"""
