"""Compares trainings under settings that must not change the result.

`python -m experiments.verify` compares settings that must not change the result, `experiments.verify.crash_test` kills
trainings, `experiments.verify.golden_runs` compares short trainings with recorded hashes.
"""
