"""What is saved comes back bit for bit, or is known to be damaged."""

import shutil

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen.training import Checkpoints, NonFiniteState, create_state, tree_digest


def tree(step=0):
    rng = np.random.default_rng(step)
    params = {"layer": {"kernel": rng.normal(size=(300, 200)).astype(np.float32), "bias": np.zeros(3, np.float16)}}
    return create_state(params, optax.adam(1e-3), ema=True, model_state=[jnp.int32(step)])


@pytest.fixture
def saved(tmp_path):
    """Checkpoints of steps 10, 20 and 30."""
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        for step in (10, 20, 30):
            checkpoints.save(step, tree(step))
        checkpoints.wait()
        yield checkpoints


def data_files(checkpoints, step):
    folder = checkpoints.directory / str(step)
    return sorted((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def test_round_trip(saved):
    step, restored = saved.restore(tree())
    assert step == 30
    assert tree_digest(restored) == tree_digest(tree(30))
    assert restored.params["layer"]["bias"].dtype == np.float16


def test_nothing_saved_yet(tmp_path):
    with Checkpoints(tmp_path / "none") as checkpoints:
        assert checkpoints.restore(tree()) is None
        assert checkpoints.steps() == []
        assert "no checkpoint yet" in checkpoints.last_good()


def test_only_the_newest_are_kept(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, {"x": np.ones(2)})
        checkpoints.wait()
        assert checkpoints.steps() == [2, 3]


def test_a_flipped_bit_is_found_and_the_one_before_is_used(saved):
    largest = data_files(saved, 30)[-1]
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    with pytest.warns(UserWarning, match="checkpoint of step 30: .*damaged-30-0; trying the one before"):
        step, restored = saved.restore(tree())
    assert step == 20
    assert tree_digest(restored) == tree_digest(tree(20))
    assert saved.steps() == [10, 20]
    assert (saved.directory / "damaged-30-0").is_dir()
    # The step can be saved anew, and a second damaged copy finds another name.
    saved.save(30, tree(30))
    saved.wait()
    assert saved.restore(tree())[0] == 30


@pytest.mark.filterwarnings("ignore:checkpoint of step 30")
def test_truncation_of_any_file_never_gives_wrong_values(saved, tmp_path):
    whole = tmp_path / "whole"
    shutil.copytree(saved.directory / "30", whole)
    for file in [p.relative_to(whole) for p in whole.rglob("*") if p.is_file()]:
        shutil.rmtree(saved.directory / "30", ignore_errors=True)
        shutil.copytree(whole, saved.directory / "30")
        victim = saved.directory / "30" / file
        victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
        step, restored = saved.restore(tree())
        assert tree_digest(restored) == tree_digest(tree(step)), file
        assert step in (20, 30)


@pytest.mark.parametrize("missing", ["state", "meta"])
def test_missing_parts_fall_back(saved, missing):
    shutil.rmtree(saved.directory / "30" / missing)
    with pytest.warns(UserWarning, match="checkpoint of step 30"):
        assert saved.restore(tree())[0] == 20


def test_a_swapped_array_is_found(saved):
    """Step 20's arrays under step 30's digests: valid files, wrong values."""
    shutil.rmtree(saved.directory / "30" / "state")
    shutil.copytree(saved.directory / "20" / "state", saved.directory / "30" / "state")
    with pytest.warns(UserWarning, match="sha256 differs from what was saved in .*kernel"):
        assert saved.restore(tree())[0] == 20


def test_a_state_that_is_not_finite_is_not_saved(saved):
    bad = tree(40)
    bad.params["layer"]["kernel"][1, 2] = np.nan
    with pytest.raises(NonFiniteState, match="step 40 is not finite in params/layer/kernel.*last good.* step 30"):
        saved.save(40, bad)
    assert saved.steps() == [10, 20, 30]


def test_another_model_is_named(saved):
    other = create_state({"layer": {"kernel": np.zeros((300, 100), np.float32)}}, optax.adam(1e-3), ema=True)
    with pytest.raises(ValueError) as error:
        saved.restore(other)
    message = str(error.value)
    assert "params/layer/kernel: float32[300, 200], expected float32[300, 100]" in message
    assert "params/layer/bias: not in this model" in message
    assert saved.steps() == [10, 20, 30]


def test_a_failed_write_is_raised_at_the_next_call(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError), Checkpoints(tmp_path / "file" / "below") as checkpoints:
        checkpoints.save(1, {"x": np.ones(2)})
        checkpoints.wait()
