"""A few steps of every experiment end where they ended when they were recorded."""

import copy

import pytest

from experiments.verify import golden_runs
from jaxgen.training import environment

pytestmark = pytest.mark.optimized
# The cheapest to compile; the others are slow.
FAST = "sparse_autoencoder"
CASES = [pytest.param(name, marks=[] if name == FAST else pytest.mark.slow) for name in golden_runs.EXPERIMENTS]


@pytest.mark.parametrize("name", CASES)
def test_a_few_steps_end_as_recorded(name):
    """In bits where the environment is the recorded one, elsewhere to tolerance."""
    holds, said = golden_runs.compare(name, golden_runs.run(name), golden_runs.read(golden_runs.FILE))
    assert holds, said


def record(**changes):
    return {"sha256": "a" * 64, "norm": 10.0, "way": 1.0, "sums": [1.0, -2.0, 3.0, 0.5], **changes}


@pytest.mark.parametrize(
    "changes, same_environment, said",
    [
        ({}, True, ""),
        ({"sha256": "b" * 64}, True, "sha256 bbbbbbbbbbbb, recorded in the same environment aaaaaaaaaaaa"),
        ({"sha256": "b" * 64}, False, ""),
        ({"sha256": "b" * 64, "sums": [1.001, -2.001, 3.0, 0.5]}, False, ""),
        ({"sums": [1.0, -2.0, 3.05, 0.5]}, False, "5.0e-02 of the way apart"),
        ({"norm": 10.5}, False, "5.0e-01 of the way apart"),
        ({"way": 0.9}, False, "1.0e-01 of the way apart"),
        ({"norm": float("nan")}, False, "nan of the way apart"),
    ],
)
def test_verdicts(changes, same_environment, said):
    here = environment.of_bits(environment.describe())
    if not same_environment:
        here = {**here, "NPROC": "3"}
    entries = [{"environment": here, "runs": {"vae": record()}}]
    holds, found = golden_runs.compare("vae", record(**changes), entries)
    assert holds == (not said) and (said in found)
    assert said or ("the same bits" in found) == same_environment


def test_what_is_not_recorded():
    assert not golden_runs.compare("vae", record(), [])[0]
    assert "--write" in golden_runs.compare("gan", record(), [{"environment": {}, "runs": {"vae": record()}}])[1]
    with pytest.raises(ValueError, match="no experiment 'vea' is recorded"):
        golden_runs.config_of("vea")


def test_the_entry_of_this_environment_is_replaced_and_others_stay():
    other = {"environment": {"NPROC": "3"}, "runs": {"vae": record()}}
    once = golden_runs.add([copy.deepcopy(other)], {"vae": record(), "gan": record()})
    again = golden_runs.add(once, {"vae": record(norm=2.0)})
    assert again[0] == other and len(again) == 2
    assert again[1]["runs"] == {"vae": record(norm=2.0), "gan": record()}


def test_what_bits_depend_on():
    described = environment.describe()
    kept = environment.of_bits(described)
    assert {"versions", "NPROC", "cpu_model", "cpu_vectors", "matmul_precision", "XLA_FLAGS"} <= kept.keys()
    assert "cpu_count" not in kept and "cpu_count" in environment.of_bits({**described, "NPROC": None})
    assert kept["versions"].keys() == {"jax", "jaxlib", "flax", "optax", "numpy"}
