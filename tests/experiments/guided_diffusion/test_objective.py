"""The losses of `guided_diffusion`: the bound, importance sampling of t, labels, small images, the noisy classifier."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.ddpm.model import build_model
from experiments.ddpm.train import objective
from experiments.guided_diffusion.config import DiffusionConfig, Network, Timesteps
from jaxgen import diffusion, training
from tests.experiments.ddpm.toys import keys_of
from tests.experiments.guided_diffusion.toys import SHAPE, T


def context(history=None):
    return training.Context(jnp.int32(0), history)


class Told(nn.Module):
    """A "network" whose output says what it was told; the parameters are what it puts out besides."""

    in_channels: int = 1
    out_channels: int = 1
    num_classes: int | None = None
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, t, labels=None, keys=None):
        table = self.param("table", nn.initializers.normal(0.3), (T, *SHAPE[:2], self.out_channels))
        output = table[t.astype(jnp.int32)]
        return output if labels is None else output + labels.astype(jnp.float32)[:, None, None, None]


UNIFORM = Timesteps()


def network_of(process, channels=2, **labels):
    """(model, parameters)."""
    table = np.random.default_rng(1).normal(scale=0.3, size=(T, *SHAPE[:2], channels)).astype(np.float32)
    model = build_model(Network(), process, SHAPE, **labels)
    told = Told(1, channels, model.network.num_classes)
    return dataclasses.replace(model, network=told), {"table": jnp.asarray(table)}


def losses(process, num, timesteps=UNIFORM, history=None, channels=2, **labels):
    """The objective on `num` copies of an image of class 7, each with a key of its own; to be traced."""
    model, params = network_of(process, channels, **labels)
    dropout = labels.get("label_dropout", 0.0)
    loss = objective(process, model, label_dropout=dropout, uniform_share=timesteps.uniform_share)
    batch = {"x": jnp.broadcast_to(X0, (num, *SHAPE)), "label": jnp.full(num, 7)}
    return loss(params, batch, keys_of(num, 3), context(history))


X0 = np.linspace(-0.9, 0.9, 64, dtype=np.float32).reshape(1, *SHAPE)


def test_the_bound_as_a_loss_is_the_bound_on_average_however_t_is_drawn():
    """Also the hybrid loss, whose mean importance sampling must not move; and it lowers the noise of the bound."""
    process = DiffusionConfig(steps=T, loss="rescaled_kl")

    @jax.jit
    def computed():
        model, params = network_of(process)
        x0 = jnp.broadcast_to(X0, (100, *SHAPE))
        terms = diffusion.bits_per_dim(
            jax.random.key(9), model.denoise(params), model.schedule, x0, clip=False, variance="learned_range"
        ).terms  # fmt: skip
        history = diffusion.LossHistory(terms.mean(axis=0)[:, None], jnp.ones(T, jnp.int32))
        weighted = losses(process, 8000, Timesteps("loss_second_moment", 1), history=history)
        return terms, losses(process, 8000), weighted

    terms, (uniform, named), (drawn, weighted) = jax.device_get(computed())
    exact = terms.sum(axis=1, dtype=np.float64)
    moments = terms.mean(axis=0, dtype=np.float64)
    for values in (uniform, named["bound"], drawn, weighted["bound"]):
        error = math.hypot(np.std(values) / len(values) ** 0.5, exact.std() / len(exact) ** 0.5)
        assert abs(np.mean(values, dtype=np.float64) - exact.mean()) < 4 * error and error < 0.05 * exact.mean()
    assert np.std(drawn) < 0.3 * np.std(uniform)
    t = weighted["timestep"]
    counted = np.bincount(t, minlength=T) / 8000
    expected = 0.999 * moments / moments.sum() + 0.001 / T
    np.testing.assert_allclose(counted, expected, atol=4 * (expected.max() / 8000) ** 0.5)
    np.testing.assert_allclose(weighted["unweighted_loss"] / (T * expected[t]), drawn, rtol=1e-3)


def test_the_losses_are_the_library_s_and_simple_needs_no_variance():
    processes = {1: DiffusionConfig(steps=T, loss="simple"), 2: DiffusionConfig(steps=T, loss="rescaled_mse")}
    assert {channels: process.p_variance for channels, process in processes.items()} == {
        1: "fixed_large", 2: "learned_range",
    }  # fmt: skip

    def exactly(process, channels):
        model, params = network_of(process, channels)
        four = jax.vmap(lambda key: jax.random.split(key, 4))(keys_of(50, 3))
        t = jax.vmap(lambda key: jax.random.randint(key, (), 0, T))(four[:, 0])
        x0 = jnp.broadcast_to(X0, (50, *SHAPE))
        x_t, noise = diffusion.q_sample(four[:, 1], model.schedule, x0, t)
        kinds = {"kind": process.loss, "variance": process.p_variance}
        return diffusion.training_loss(model.schedule, model.apply(params, x_t, t), x0, t, noise, **kinds)

    @jax.jit
    def computed():
        return {
            process.loss: (losses(process, 50, channels=channels), exactly(process, channels))
            for channels, process in processes.items()
        }

    for loss, ((found, named), exact) in jax.device_get(computed()).items():
        np.testing.assert_allclose(found, exact.loss, rtol=1e-4, atol=1e-6, err_msg=loss)
        np.testing.assert_allclose(named["error"], exact.mse, rtol=1e-5, err_msg=loss)
        assert ("bound" in named) == (loss != "mse")
        if loss != "mse":
            np.testing.assert_allclose(named["bound"], T * exact.vlb, rtol=1e-4, atol=1e-4, err_msg=loss)
        quarters = np.stack([named[f"error_quarter_{i}"] for i in (1, 2, 3, 4)])
        np.testing.assert_allclose(quarters.sum(axis=0), 4 * exact.mse, rtol=1e-5, err_msg=loss)


def test_labels_are_left_out_at_the_rate_and_the_null_label_comes_after_the_classes():
    process = DiffusionConfig(steps=T, loss="mse", variance="fixed_large", prediction="x0")
    found, _ = jax.jit(lambda: losses(process, 2000, channels=1, classes=10, label_dropout=0.3))()
    seen = np.rint(np.sqrt(np.asarray(found)))
    assert set(seen) == {7, 10} and abs((seen == 10).mean() - 0.3) < 4 * (0.21 / 2000) ** 0.5
    cases: list[tuple[dict[str, Any], Any, Any]] = [
        ({"classes": 10}, 10, None),
        ({"classes": 10, "label_dropout": 0.1}, 11, 10),
        ({"label_dropout": 0.1}, None, None),
    ]
    for labels, rows, null in cases:
        model = build_model(Network(), process, SHAPE, **labels)
        assert (model.network.num_classes, model.null_label) == (rows, null)
        assert model.num_classes == labels.get("classes")


def test_an_upsampler_sees_the_means_of_squares_beside_the_noise():
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 2)).astype(np.float32)

    class Net:
        def apply(self, variables, x, t):
            return x, t

    @jax.jit
    def computed(x, t):
        schedule = diffusion.make_schedule(diffusion.cosine_betas(4000))
        model = diffusion.DiffusionModel(Net(), schedule, shape=(8, 8, 2), rescaled_timesteps=True, low_resolution=2)
        small = model.conditioning(x, None)["low_resolution"]
        return small, model.apply({}, x, t, low_resolution=small), diffusion.with_low_resolution(x, small)

    small, seen, expected = jax.device_get(computed(x, np.array([0, 2000, 3999], np.int32)))
    np.testing.assert_allclose(small, x.reshape(3, 2, 4, 2, 4, 2).mean(axis=(2, 4)), atol=1e-6)
    np.testing.assert_array_equal(seen[0], expected)
    np.testing.assert_allclose(seen[1], [0, 500, 999.75])


class Logits(nn.Module):
    """The mean of the image times a row of parameters, as the logits of three classes."""

    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, t, keys=None):
        return nn.Dense(3, use_bias=False)(jnp.mean(x, axis=(1, 2)))


def test_the_classifier_s_loss_is_its_cross_entropy_at_a_random_noise_level():
    classifier = diffusion.DiffusionModel(Logits(), DiffusionConfig(steps=T).make_schedule(), shape=SHAPE)
    params = {"Dense_0": {"kernel": np.array([[0.0, 1.0, -2.0]], np.float32)}}
    x = np.broadcast_to(np.array([0.5, -0.5], np.float32)[:, None, None, None], (2, *SHAPE))
    batch = {"x": np.tile(x, (1000, 1, 1, 1)), "label": np.tile(np.array([1, 0], np.int32), 1000)}

    @jax.jit
    def computed(batch):
        loss = lambda noised: diffusion.classifier_objective(classifier, noised=noised)
        return tuple(loss(noised)(params, batch, keys_of(2000), context()) for noised in (False, True))

    (found, named), (_, noisy) = jax.device_get(computed(batch))
    for i, (value, label) in enumerate(((0.5, 1), (-0.5, 0))):
        logits = np.array([0, value, -2 * value])
        np.testing.assert_allclose(found[i], np.log(np.exp(logits).sum()) - logits[label], rtol=1e-5)
    assert set(named) == {"right"} and named["right"].tolist()[:2] == [1, 0]
    # Mean -0.5 and the logit -0.5 of class 1 against 0 and +1.
    quarters = np.stack([noisy[f"right_quarter_{i}"] for i in (1, 2, 3, 4)])
    np.testing.assert_allclose(quarters.sum(axis=0), 4 * noisy["right"])
    first = noisy["right_quarter_1"][0::2].mean() / noisy["right_quarter_4"][0::2].mean()
    assert first > 1.2  # the less noise, the more often it is right


def test_a_random_crop_is_a_square_of_the_image_enlarged():
    ramp = np.broadcast_to(np.arange(8, dtype=np.float32)[:, None, None], (8, 8, 1))

    @jax.jit
    def computed(ramp):
        crop = lambda key: diffusion.random_crop(key, ramp, 0.8)
        return diffusion.random_crop(jax.random.key(0), ramp, 1.0), jax.vmap(crop)(keys_of(300))

    whole, cropped = jax.device_get(computed(ramp))
    np.testing.assert_allclose(whole, ramp, atol=1e-5)
    slopes = np.asarray(cropped[:, 3, 0, 0] - cropped[:, 2, 0, 0], np.float64)
    assert 0.8 <= slopes.min() < 0.82 and 0.98 < slopes.max() <= 1.0001
    # The square lies inside: row i shows (i + 1/2) share + start - 1/2, 0 <= start <= 8 (1 - share).
    start = np.asarray(cropped[:, 3, 0, 0], np.float64) + 0.5 - 3.5 * slopes
    room = 8 * (1 - slopes)
    assert (start > -1e-4).all() and (start < room + 1e-4).all()
    assert np.ptp(start[room > 1] / room[room > 1]) > 0.8
