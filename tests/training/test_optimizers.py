"""Optimizer configs: the schedule in rounds, and Adam's start, against hand-written NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import training


def steps_of(config, num_steps, gradients):
    """The parameter after each gradient, from 0."""
    import optax

    optimizer = training.build_optimizer(config, num_steps)

    def step(carry, gradient):
        params, state = carry
        with jax.numpy_dtype_promotion("standard"):  # as the engine does around optax
            change, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, change)
        return (params, state), params

    start = jnp.float32(0)
    path = jax.jit(lambda gradients: jax.lax.scan(step, (start, optimizer.init(start)), gradients)[1])
    return np.asarray(path(np.asarray(gradients, np.float32)))


def test_rounds_are_the_papers():
    """Burda et al.: 3^i epochs at the rate 0.001 * 10^(-i/7)."""
    config = training.Optimizer("sgd", 1e-3, "rounds", rounds=3, momentum=0.0)
    moves = -np.diff(np.concatenate([[0], steps_of(config, 26, [1.0] * 26)]))
    expected = np.repeat([1e-3, 1e-3 * 10 ** (-1 / 7), 1e-3 * 10 ** (-2 / 7)], [2, 6, 18])
    np.testing.assert_allclose(moves, expected, rtol=1e-3)


def test_the_linear_schedule_ends_at_zero():
    """As the authors of guided-diffusion anneal: the rate of step i of N is (1 - i / N) of the first."""
    config = training.Optimizer("sgd", 0.1, "linear", momentum=0.0)
    moves = -np.diff(np.concatenate([[0], steps_of(config, 4, [1.0] * 4)]))
    np.testing.assert_allclose(moves, [0.1, 0.075, 0.05, 0.025], rtol=1e-5)


def test_adam_from_a_second_moment_of_one_with_a_scaled_gradient():
    config = training.Optimizer(
        "adam", 0.1, beta1=0.99, epsilon=1e-4, start_second_moment=1.0, scale=20.0
    )  # fmt: skip
    gradients = [0.5, -0.2, 0.7]
    m, v, params, path = 0.0, 1.0, 0.0, []
    for i, gradient in enumerate(gradients, 1):
        g = 20 * gradient
        m, v = 0.99 * m + 0.01 * g, 0.999 * v + 0.001 * g * g
        params -= 0.1 * (m / (1 - 0.99**i)) / (np.sqrt(v / (1 - 0.999**i)) + 1e-4)
        path.append(params)
    np.testing.assert_allclose(steps_of(config, 100, gradients), path, rtol=1e-4)


def test_adagrad_divides_by_the_root_of_the_sum_of_squares():
    gradients = np.array([0.5, -0.2, 0.7])
    found = steps_of(training.Optimizer("adagrad", 0.1), 100, gradients)
    np.testing.assert_allclose(found, np.cumsum(-0.1 * gradients / np.sqrt(np.cumsum(gradients**2))), rtol=1e-5)


@pytest.mark.parametrize(
    "config, message",
    [
        (training.Optimizer(learning_rate=0.0), "learning_rate is 0"),
        (training.Optimizer(warmup_steps=11), "warmup_steps is 11"),
        (training.Optimizer(schedule="rounds", rounds=0), "rounds is 0"),
    ],
)
def test_impossible_settings_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        training.build_optimizer(config, 10)


def test_goodfellows_momentum_changes_between_epochs():
    config = training.Optimizer("sgd", 0.1, "goodfellow", momentum=0.5, epoch_steps=3)
    path = steps_of(config, 12, [1.0] * 12)
    delta, params, expected = 0.0, 0.0, []
    for step in range(12):
        momentum = 0.5 + 0.2 * max(step // 3 - 1, 0) / 249
        delta = momentum * delta - 0.1 / 1.000004**step
        params += delta
        expected.append(params)
    np.testing.assert_allclose(path, expected, rtol=1e-6)


def test_goodfellows_late_rate_and_last_momentum():
    """Half a million steps on: the rate is 0.1 / 1.000004^500000, not that of a power of a float32."""
    late = 500_000
    config = training.Optimizer("sgd", 0.1, "goodfellow", momentum=0.5)
    optimizer = training.build_optimizer(config, 1)

    @jax.jit
    def two_moves():
        start, moves = optimizer.init(jnp.float32(0)), []
        state = jax.tree.map(lambda x: jnp.full_like(x, late) if x.dtype == jnp.int32 else x, start)
        for _ in range(2):
            with jax.numpy_dtype_promotion("standard"):
                change, state = optimizer.update(jnp.float32(-1), state)
            moves.append(change)
        return jnp.stack(moves)

    moves = two_moves()
    rate = 0.1 * 1.000004**-late
    np.testing.assert_allclose(moves, [rate, 1.7 * rate], rtol=1e-5)
    with pytest.raises(ValueError, match="'goodfellow' is for sgd"):
        training.build_optimizer(training.Optimizer("sgd", 0.1, "goodfellow", clip=1.0), 10)
