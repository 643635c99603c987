import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen import training
from jaxgen.training import keys
from tests.training.engine_toy import BATCH, DATA, objective, parameters

pytestmark = pytest.mark.optimized

BATCH_ARRAYS = {"x": DATA[:BATCH]}
ROWS = training.DeviceBatches(lambda key, arrays, step, positions: {"x": arrays[positions]}, DATA[:BATCH])


def keys_per_example(n=BATCH):
    return keys.per_example(keys.stream(keys.root(0), "model"), jnp.arange(n))


def test_one_sgd_step_against_the_gradient():
    params, optimizer = parameters(), optax.sgd(0.1)

    @jax.jit
    def both():
        mean_loss = lambda p: jnp.mean(objective(p, BATCH_ARRAYS, keys_per_example(), None)[0])
        update = training.update_from_objective(objective, optimizer)
        begin = training.create_state(params, optimizer)
        updated = update(begin, BATCH_ARRAYS, keys_per_example(), training.plain_mean)
        return jax.value_and_grad(mean_loss)(params), updated

    (value, gradient), (state, metrics) = both()
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-6)
    squares = sum(np.sum(np.asarray(g, np.float64) ** 2) for g in jax.tree.leaves(gradient))
    np.testing.assert_allclose(metrics["gradient_norm"], np.sqrt(squares), rtol=1e-6)
    for name in params:
        expected = params[name] - np.float32(0.1) * np.asarray(gradient[name])
        np.testing.assert_allclose(state.params[name], expected, rtol=1e-6, atol=1e-7)
    assert int(state.step) == 1


def test_moving_average_against_its_closed_form_and_the_step_in_the_context():
    """Parameters that grow by 1 a step: ema_n = sum_k d^(n-k) (1-d) k + d^n 0."""
    decay, n = 0.9, 6

    def grow(params, batch, k, context):
        return -params["a"] * jnp.ones(BATCH), {"seen": jnp.full(BATCH, context.step, jnp.float32)}

    optimizer = optax.sgd(1.0)
    update = training.update_from_objective(grow, optimizer, ema_decay=decay)
    step = jax.jit(lambda state: update(state, BATCH_ARRAYS, keys_per_example(), training.plain_mean))
    state = training.create_state({"a": np.float32(0)}, optimizer, ema=True)
    for number in range(n):
        state, metrics = step(state)
        assert float(metrics["seen"]) == number
    expected = sum((1 - decay) * decay ** (n - k) * k for k in range(1, n + 1))
    np.testing.assert_allclose(state.params["a"], n)
    np.testing.assert_allclose(state.ema["a"], expected, rtol=1e-6)


def test_warm_up_decay():
    got = jax.jit(jax.vmap(training.warm_up_decay(0.99)))(np.array([0, 9, 90, 5000], np.int32))
    np.testing.assert_allclose(got, [1 / 10, 10 / 19, 91 / 100, 0.99], rtol=1e-6)


def test_a_moving_average_must_have_been_asked_for():
    optimizer = optax.sgd(0.1)
    update = training.update_from_objective(objective, optimizer, ema_decay=0.9)
    state = training.create_state(parameters(), optimizer)
    with pytest.raises(ValueError, match=r"create_state\(..., ema=True\)"):
        jax.eval_shape(lambda state: update(state, BATCH_ARRAYS, keys_per_example(), training.plain_mean), state)


SPLITS = [
    pytest.param(1, {}, marks=pytest.mark.slow),
    pytest.param(4, {}, marks=pytest.mark.slow),
    (2, {}),
    (2, {"accumulate": 4}),
    (2, {"exact_shards": 8}),
    pytest.param(4, {"exact_shards": 8}, marks=pytest.mark.slow),
]


def two_steps(update, params, optimizer, devices, options, **kwargs):
    """The state after one step, and the state and the sums after two."""
    parallel = training.ParallelUpdate(update, ROWS, batch_size=BATCH, devices=jax.devices()[:devices], **options)
    begin, key = training.create_state(params, optimizer, **kwargs), keys.root(0)
    first, sums = parallel(parallel.replicate(begin), parallel.empty_sums(begin, key), key, None, 1)
    return jax.device_get(first), *jax.device_get(parallel(first, sums, key, None, 1))


@pytest.mark.parametrize("devices, options", SPLITS)
def test_statistics_and_observers_are_of_the_global_batch_on_any_split(devices, options):
    """A loss of a batch statistic has the same gradient; an observer receives every example, in global order."""

    def mean_of_a(params, batch, keys_per_example, context):
        return {"a": batch["x"] @ params["w"]}

    def square_of_the_mean(params, batch, keys_per_example, context):
        """(mean_i a_i)^2 by its exact linearisation at the global mean m: m^2 + 2 m (a_i - m)."""
        a, m = batch["x"] @ params["w"], context.statistics["a"]
        first = batch["x"][:, 0]
        return m**2 + 2.0 * m * (a - m), {"first": first, "count": context.model_state["count"] + 0 * first}

    def observe(model_state, metrics):
        return {"count": model_state["count"] + 1.0, "first": metrics["first"]}

    w = np.linspace(0.5, 1.5, DATA.shape[1], dtype=np.float32)
    rows = DATA[:BATCH].astype(np.float64)
    mean = np.mean(rows @ w)
    optimizer = optax.sgd(1.0)
    update = training.update_from_objective(square_of_the_mean, optimizer, statistics=mean_of_a, observe=observe)
    model_state = {"count": np.float32(0), "first": np.zeros(BATCH, np.float32)}
    first, end, sums = two_steps(update, {"w": w}, optimizer, devices, options, model_state=model_state)
    np.testing.assert_allclose(w - first.params["w"], 2 * mean * rows.mean(0), rtol=1e-5, atol=1e-6)
    losses = mean**2 + np.mean(rows @ first.params["w"]) ** 2
    np.testing.assert_allclose(sums.totals["loss"], losses, rtol=1e-5)
    np.testing.assert_array_equal(end.model_state["first"], DATA[:BATCH, 0])
    assert float(end.model_state["count"]) == 2
    # The objective of each step saw the state before it: 0, then 1.
    assert float(sums.totals["count"]) == 1
