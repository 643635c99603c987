import jax
import numpy as np
import pytest

from jaxgen.training import keys


def test_the_scheme_is_seed_stream_step_position():
    expected = jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(jax.random.key(7), 2), 3), 41)
    got = keys.per_example(keys.at_step(keys.stream(keys.root(7), "model"), 3), np.arange(40, 44))
    np.testing.assert_array_equal(jax.random.key_data(got[1]), jax.random.key_data(expected))


def test_stream_numbers_are_part_of_every_recorded_result():
    assert keys.STREAMS == {"params": 0, "order": 1, "model": 2, "eval": 3, "sample": 4, "stage": 5}


def test_streams_steps_positions_and_stages_all_differ():
    root = keys.root(0)
    made = [keys.stream(root, name) for name in keys.STREAMS]
    made += [keys.at_step(keys.stream(root, "model"), s) for s in range(20)]
    made += list(keys.per_example(keys.at_step(keys.stream(root, "model"), 0), np.arange(20)))
    made += [keys.stage(root, n) for n in range(5)]
    assert len({tuple(np.asarray(jax.random.key_data(k)).tolist()) for k in made}) == len(made)


def test_unknown_stream_and_impossible_seed():
    with pytest.raises(ValueError, match="no random stream 'modell'; the streams are params"):
        keys.stream(keys.root(0), "modell")
    with pytest.raises(ValueError, match="seed is -1"):
        keys.root(-1)
