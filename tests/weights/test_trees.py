"""Trees as named arrays and back: names, bits, and what is refused."""

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxgen import training, weights


def tree():
    rng = np.random.default_rng(0)
    layers = [{"kernel": rng.normal(size=(3, 2)).astype(np.float32)}, {"kernel": np.ones(2, ml_dtypes.bfloat16)}]
    return {"params": {"layers": layers, "bias": jnp.arange(4.0)}, "step": np.int32(7), "none": None}


def test_names_are_paths_and_values_keep_their_bits():
    flat = weights.flatten(tree())
    assert set(flat) == {"params/layers/0/kernel", "params/layers/1/kernel", "params/bias", "step"}
    assert all(isinstance(array, np.ndarray) for array in flat.values())
    assert flat["params/layers/1/kernel"].dtype == ml_dtypes.bfloat16 and flat["step"] == 7
    np.testing.assert_array_equal(flat["params/layers/0/kernel"], tree()["params"]["layers"][0]["kernel"])


def test_unflatten_inverts_flatten_in_any_order():
    flat = weights.flatten(tree())
    target = {**tree(), "step": np.int32(0)}
    again = weights.unflatten(dict(sorted(flat.items(), reverse=True)), target)
    assert again["step"] == 7 and again["none"] is None
    assert weights.tree_digest(again) == weights.tree_digest(tree())


def test_a_named_tuple_has_the_names_of_its_fields():
    sums = training.MetricSums({"loss": np.float32(2)}, np.int32(1), np.int32(-1))
    flat = weights.flatten(sums)
    assert set(flat) == {"totals/loss", "count", "first_bad_step"}
    assert weights.unflatten(flat, sums) == sums


def test_arrays_of_another_model_are_refused_naming_all_differences():
    flat = weights.flatten(tree())
    del flat["params/bias"]
    flat |= {"extra": np.zeros(1), "step": np.array(7), "params/layers/0/kernel": np.zeros((2, 3), np.float32)}
    with pytest.raises(ValueError) as refused:
        weights.unflatten(flat, tree(), "weights.npz")
    message = str(refused.value)
    assert message.startswith("weights.npz belongs to another model or configuration:")
    assert "params/bias: missing" in message and "extra: not in this model" in message
    assert "params/layers/0/kernel: float32[2, 3], expected float32[3, 2]" in message
    assert "step: int64[], expected int32[]" in message


def test_many_differences_are_cut_short():
    with pytest.raises(ValueError) as refused:
        weights.unflatten({}, {f"w{i}": np.zeros(1) for i in range(30)})
    assert str(refused.value).count("missing") == 10 and str(refused.value).endswith("...")


def test_a_digest_depends_on_names_shapes_dtypes_and_bits():
    x = np.arange(6, dtype=np.float32)
    others = [
        {"b": x}, {"a": x.reshape(2, 3)}, {"a": x.astype(np.float64)}, {"a": x.view(np.int32)}, {"a": -x},
        {"a": np.where(x == 0, np.float32(-0.0), x)}, {"a": x, "b": np.zeros(0, np.float32)},
    ]  # fmt: skip
    digests = [weights.tree_digest(other) for other in ({"a": x}, *others)]
    assert len(set(digests)) == len(digests)
    assert weights.tree_digest({"a": jnp.asarray(x)}) == digests[0] == training.tree_digest({"a": x})
    assert weights.array_digest(x[::2]) == weights.array_digest(x[::2].copy())
