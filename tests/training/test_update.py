import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from engine_toy import BATCH, DATA, init, objective

from jaxgen import training
from jaxgen.training import keys

BATCH_ARRAYS = {"x": jnp.asarray(DATA[:BATCH])}


def example_keys(n=BATCH):
    return keys.per_example(keys.stream(keys.root(0), "model"), jnp.arange(n))


def test_one_sgd_step_against_the_gradient():
    params = init(keys.root(0))
    optimizer = optax.sgd(0.1)
    mean_loss = lambda p: jnp.mean(objective(p, BATCH_ARRAYS, example_keys(), None)[0])
    value, gradient = jax.value_and_grad(mean_loss)(params)
    update = training.update_from_objective(objective, optimizer)
    state, metrics = update(training.create_state(params, optimizer), BATCH_ARRAYS, example_keys(), training.plain_mean)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-6)
    squares = sum(np.sum(np.asarray(g, np.float64) ** 2) for g in jax.tree.leaves(gradient))
    np.testing.assert_allclose(metrics["gradient_norm"], np.sqrt(squares), rtol=1e-6)
    for name in params:
        np.testing.assert_allclose(state.params[name], params[name] - 0.1 * gradient[name], rtol=1e-6, atol=1e-7)
    assert int(state.step) == 1


def test_moving_average_against_its_closed_form():
    """Parameters that grow by 1 a step: ema_n = sum_k d^(n-k) (1-d) k + d^n 0."""
    decay, n = 0.9, 6
    grow = lambda params, batch, k, context: (-params["a"] * jnp.ones(BATCH), {})
    optimizer = optax.sgd(1.0)
    update = training.update_from_objective(grow, optimizer, ema_decay=decay)
    state = training.create_state({"a": jnp.zeros(())}, optimizer, ema=True)
    for _ in range(n):
        state, _ = update(state, BATCH_ARRAYS, example_keys(), training.plain_mean)
    expected = sum((1 - decay) * decay ** (n - k) * k for k in range(1, n + 1))
    np.testing.assert_allclose(state.params["a"], n)
    np.testing.assert_allclose(state.ema["a"], expected, rtol=1e-6)


def test_warm_up_decay():
    decay = training.warm_up_decay(0.99)
    got = [float(decay(jnp.int32(s))) for s in (0, 9, 90, 5000)]
    np.testing.assert_allclose(got, [1 / 10, 10 / 19, 91 / 100, 0.99], rtol=1e-6)


def test_a_moving_average_must_have_been_asked_for():
    optimizer = optax.sgd(0.1)
    update = training.update_from_objective(objective, optimizer, ema_decay=0.9)
    state = training.create_state(init(keys.root(0)), optimizer)
    with pytest.raises(ValueError, match=r"create_state\(..., ema=True\)"):
        update(state, BATCH_ARRAYS, example_keys(), training.plain_mean)


def square_of_the_mean(params, batch, example_keys, context):
    """(mean_i a_i)^2 by its exact linearisation at the global mean m: m^2 + 2 m (a_i - m)."""
    a = batch["x"] @ params["w"]
    m = context.statistics["a"]
    return m**2 + 2.0 * m * (a - m), {}


def mean_of_a(params, batch, example_keys, context):
    return {"a": batch["x"] @ params["w"]}


@pytest.mark.parametrize("devices, options", [(1, {}), (4, {}), (2, {"accumulate": 4}), (2, {"exact_shards": 8})])
def test_a_loss_of_a_batch_statistic_has_the_same_gradient_on_any_split(devices, options):
    params = {"w": jnp.linspace(0.5, 1.5, DATA.shape[1])}
    direct = jax.value_and_grad(lambda p: jnp.mean(BATCH_ARRAYS["x"] @ p["w"]) ** 2)
    value, gradient = direct(params)
    optimizer = optax.sgd(1.0)
    update = training.update_from_objective(square_of_the_mean, optimizer, statistics=mean_of_a)
    take = training.DeviceBatches(lambda key, arrays, step, positions: {"x": arrays[positions]}, DATA[:BATCH])
    parallel = training.ParallelUpdate(update, take, batch_size=BATCH, devices=jax.devices()[:devices], **options)
    begin = training.create_state(params, optimizer)
    tally = parallel.empty_tally(begin, keys.root(0))
    end, tally = parallel(parallel.replicate(begin), tally, keys.root(0), None, 1)
    np.testing.assert_allclose(params["w"] - end.params["w"], gradient["w"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(tally.totals["loss"], value, rtol=1e-5)


def test_the_objective_sees_the_step():
    seen = lambda params, batch, k, context: (jnp.zeros(BATCH) + context.step.astype(jnp.float32), {})
    optimizer = optax.sgd(0.1)
    update = training.update_from_objective(seen, optimizer)
    state = training.create_state({"a": jnp.zeros(())}, optimizer)
    for step in range(3):
        state, metrics = update(state, BATCH_ARRAYS, example_keys(), training.plain_mean)
        assert float(metrics["loss"]) == step


@pytest.mark.parametrize("devices, options", [(1, {}), (2, {"accumulate": 4}), (4, {"exact_shards": 8})])
def test_an_observer_sees_every_example_of_the_global_batch_in_order(devices, options):
    def numbered(params, batch, example_keys, context):
        first = batch["x"][:, 0]
        return params["w"] * first, {"first": first, "count": context.model_state["count"] + 0 * first}

    def observe(model_state, metrics):
        return {"count": model_state["count"] + 1.0, "first": metrics["first"]}

    optimizer = optax.sgd(1.0)
    update = training.update_from_objective(numbered, optimizer, observe=observe)
    model_state = {"count": jnp.zeros(()), "first": jnp.zeros(BATCH)}
    state = training.create_state({"w": jnp.ones(())}, optimizer, model_state=model_state)
    take = training.DeviceBatches(lambda key, arrays, step, positions: {"x": arrays[positions]}, DATA[:BATCH])
    parallel = training.ParallelUpdate(update, take, batch_size=BATCH, devices=jax.devices()[:devices], **options)
    end, tally = parallel(parallel.replicate(state), parallel.empty_tally(state, keys.root(0)), keys.root(0), None, 2)
    np.testing.assert_array_equal(end.model_state["first"], DATA[:BATCH, 0])
    assert float(end.model_state["count"]) == 2
    # The objective of each step saw the state before it: 0, then 1.
    assert float(tally.totals["count"]) == 1
