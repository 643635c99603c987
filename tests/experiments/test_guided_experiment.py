"""The guided experiment: the papers' settings, refusals, losses, resuming, guidance, what is measured."""

import dataclasses
import json
import math
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import one_program
import pytest
from flax import linen as nn
from one_program import slow_tests_optimized, unoptimized  # noqa: F401 (fixtures)
from PIL import Image

from experiments import (
    ddpm_evaluation,
    guided_classifier,
    guided_diffusion,
    guided_networks,
    guided_training,
    image_batches,
    optimizers,
)
from experiments.ddpm_evaluation import Sampler
from experiments.diffusion_chain import make_schedule
from experiments.guided_evaluation import Evaluation, Guidance, Guided, ways
from experiments.guided_networks import Conditions, Denoiser, NoisyClassifier
from experiments.guided_training import Process, Timesteps
from jaxgen import diffusion, training

SHAPE = (8, 8, 1)
T = 40
TINY = guided_diffusion.Config(
    data=image_batches.Data(flip=True),
    labels=guided_diffusion.Labels(dropout=0.3),
    network=guided_networks.Network(4, (1,), 1, (), head_channels=4, groups=2, dropout=0.5),
    process=Process("cosine", T),
    timesteps=Timesteps("loss_second_moment", history=1),
    optimizer=optimizers.Optimizer("adamw", 1e-2),
    ema=0.99,
    classifier=guided_classifier.Classifier(
        guided_networks.ClassifierNetwork(4, (1,), 1, (), head_channels=4, groups=2, dropout=0.2),
        num_steps=3,
        batch_size=8,
        crop=0.8,
    ),
    preview_every=100,
    preview=Sampler("dpm_solver", "logsnr4"),
    guidance=Guidance(("classifier", "classifier_free"), (0.0, 1.0, 3.0)),
    evaluation=Evaluation(
        images=5, samples=12, sampler=Sampler("ddim", "ddim4"), second=Sampler(steps="3"), second_scales=(3.0,),
        batch_size=5, levels=3, classified=7,
    ),
    train=training.Settings(num_steps=8, batch_size=16, log_every=4, save_every=4, devices=1),
)  # fmt: skip


def changed(config=TINY, **fields):
    """A config with fields such as network__dropout=0."""
    for name, value in fields.items():
        outer, _, inner = name.partition("__")
        if inner:
            value = changed(getattr(config, outer), **{inner: value})
        config = dataclasses.replace(config, **{outer: value})
    return config


@partial(jax.jit, static_argnums=(0, 1))
def keys_of(num, seed=0):
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(num))


def context(history=None):
    return training.Context(jnp.int32(0), history)


def write_images(folder, number, subfolder):
    """Image i is of the grey level 10 i."""
    for i in range(number):
        (folder / subfolder(i)).mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4), 10 * i, np.uint8)).save(folder / subfolder(i) / f"{i:02}.png")


# Settings


def test_the_papers_networks():
    """Whose parameters are counted where the networks are tested."""
    presets = guided_diffusion.PRESETS
    build = guided_networks.build
    for size in (64, 128, 256, 512):
        config, shape = presets[f"imagenet{size}"], (size, size, 3)
        assert build(config.network, Conditions(1000), shape, learned=True).network == diffusion.adm_unet(size)
        classifier = guided_networks.build_classifier(config.classifier.network, 1000, shape)
        assert classifier.network == diffusion.adm_classifier(size)
        assert config.process.rescale == 0
    upsampler = build(presets["upsample"].network, Conditions(1000, 0, 64), (256, 256, 3), learned=True)
    assert upsampler.network == diffusion.adm_upsampler(256)
    to_512 = changed(presets["upsample"], network__attention=(32, 16), network__head_channels=64)
    upsampler = build(to_512.network, Conditions(1000, 0, 128), (512, 512, 3), learned=True)
    assert upsampler.network == diffusion.adm_upsampler(512)
    cifar10 = presets["cifar10_iddpm"]
    denoiser = build(cifar10.network, Conditions(), (32, 32, 3), learned=True, rescale=cifar10.process.rescale)
    assert denoiser == Denoiser(diffusion.iddpm_unet(32), 4000)
    simple = build(cifar10.network, Conditions(), (32, 32, 3), learned=Process(loss="simple").learned)
    assert simple.network == diffusion.iddpm_unet(32, out_channels=3)
    narrow = build(guided_networks.Network(dtype="bfloat16", remat=True), Conditions(9, 0.1), SHAPE, learned=False)
    assert (narrow.network.dtype, narrow.network.remat, narrow.network.num_classes) == (jnp.bfloat16, True, 10)


def test_the_papers_settings():
    big = {n: c for n, c in guided_diffusion.PRESETS.items() if n not in ("quick", "mnist")}
    for config in big.values():
        assert (config.ema, config.ema_warm_up, config.train.deterministic) == (0.9999, False, True)
        assert (config.optimizer.name, config.optimizer.schedule, config.optimizer.weight_decay) == (
            "adamw", "constant", 0,
        )  # fmt: skip
        assert config.process.p_variance == "learned_range" and config.process.loss == "rescaled_mse"
        assert (config.labels.dropout, config.timesteps.sampler) == (0, "uniform")
        assert guided_diffusion.may_grow(config) == ("train.num_steps",)
    seen = {
        n: (c.process.schedule, c.process.steps, c.optimizer.learning_rate, c.train.batch_size, c.train.num_steps)
        for n, c in big.items()
    }
    assert seen == {
        "cifar10_iddpm": ("cosine", 4000, 1e-4, 128, 500_000),
        "imagenet64": ("cosine", 1000, 3e-4, 2048, 540_000),
        "imagenet128": ("linear", 1000, 1e-4, 256, 4_360_000),
        "imagenet256": ("linear", 1000, 1e-4, 256, 1_980_000),
        "imagenet512": ("linear", 1000, 1e-4, 256, 1_940_000),
        "upsample": ("linear", 1000, 1e-4, 256, 500_000),
    }
    classifiers = {
        n: (c.classifier.optimizer.learning_rate, c.classifier.batch_size, c.classifier.num_steps)
        for n, c in big.items()
        if c.classifier.exists
    }
    assert classifiers == {
        "imagenet64": (6e-4, 1024, 300_000),
        "imagenet128": (3e-4, 256, 300_000),
        "imagenet256": (3e-4, 256, 500_000),
        "imagenet512": (3e-4, 256, 500_000),
    }
    for name in classifiers:
        chosen = big[name].classifier
        assert (chosen.optimizer.name, chosen.optimizer.schedule, chosen.optimizer.weight_decay) == (
            "adamw", "linear", 0.05,
        )  # fmt: skip
        assert (chosen.crop, big[name].data.flip, big[name].evaluation.sampler) == (0.8, True, Sampler(steps="250"))
    assert [big[n].guidance.scales for n in classifiers] == [(1,), (0.5,), (1,), (4,)]


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"labels__classes": 9}, "labels go from 0 to 9, outside the 9 classes 0 to 8"),
        (
            {"labels": guided_diffusion.Labels(conditional=False)},
            "'classifier', and the model is unconditional: it knows no classes",
        ),
        ({"labels__dropout": 0.0}, "needs the model without labels too, and labels.dropout is 0"),
        ({"labels__conditional": False}, "leaves labels out that the network is not told"),
        ({"classifier__num_steps": 0}, "'classifier', and the run has no classifier: set --classifier.num-steps"),
        ({"classifier__trained": "nowhere"}, "no nowhere; --classifier.trained is the folder of a run"),
        ({"classifier__network__head_channels": 0}, "pooling by attention needs head_channels"),
        ({"classifier__crop": 0.0}, "classifier.crop is 0"),
        ({"classifier__batch_size": 0}, "classifier.batch_size at least 1"),
        ({"guidance__interval": (0.5, 0.2)}, "guidance.interval is"),
        ({"guidance__kinds": ()}, "guidance.kinds or guidance.scales is empty"),
        ({"process__loss": "simple", "process__variance": "learned_range"}, "--process.loss rescaled_mse"),
        ({"timesteps__uniform": 0.0}, "timesteps.uniform 0"),
        ({"low_resolution": 3}, "low_resolution is 3 for images of 8 x 8"),
        ({"low_resolution": 8}, "and be smaller"),
        ({"evaluation__second": Sampler(steps="41")}, "41"),
        ({"network__multipliers": (1, 1, 1, 1, 1)}, "8 x 8 cannot be halved 4 times"),
        ({"ema": 1.0}, "ema is 1.0"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(fields, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        guided_diffusion.prepare(changed(**fields))


def test_images_without_labels_are_refused(tmp_path):
    write_images(tmp_path, 10, lambda i: "")
    with pytest.raises(ValueError, match="the images have no labels: put them into one folder a class"):
        guided_diffusion.prepare(changed(data=image_batches.Data("images", str(tmp_path))))


def test_every_way_to_draw_is_measured_once():
    named = lambda **fields: [way.name for way in ways(changed(TINY.guidance, **fields), TINY.evaluation)]
    assert named() == [
        "unguided", "classifier_1", "classifier_3", "without_labels", "classifier_free_3", "classifier_3_3_steps",
    ]  # fmt: skip
    assert named(kinds=("none",)) == ["unguided", "unguided_3_steps"]
    assert named(kinds=("classifier_alone",)) == [
        "without_labels", "classifier_alone_1", "classifier_alone_3", "classifier_alone_3_3_steps",
    ]  # fmt: skip
    assert named(kinds=("classifier_free",), scales=(0.5,)) == ["classifier_free_0.5", "classifier_free_3_3_steps"]


# Losses


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


UNCONDITIONAL, UNIFORM = Conditions(), Timesteps()


def network_of(process, conditions=UNCONDITIONAL, channels=2):
    """(network, parameters, schedule)."""
    table = np.random.default_rng(1).normal(scale=0.3, size=(T, *SHAPE[:2], channels)).astype(np.float32)
    denoiser = Denoiser(Told(1, channels, conditions.num_embedded))  # type: ignore[arg-type]
    return denoiser, {"table": jnp.asarray(table)}, make_schedule(process)


def losses(process, num, timesteps=UNIFORM, conditions=UNCONDITIONAL, history=None, channels=2):
    """The objective on `num` copies of an image of class 7, each with a key of its own; to be traced."""
    denoiser, params, schedule = network_of(process, conditions, channels)
    loss = guided_training.objective(process, timesteps, schedule, denoiser, conditions)
    batch = {"x": jnp.broadcast_to(X0, (num, *SHAPE)), "label": jnp.full(num, 7)}
    return loss(params, batch, keys_of(num, 3), context(history))


X0 = np.linspace(-0.9, 0.9, 64, dtype=np.float32).reshape(1, *SHAPE)


def test_the_bound_as_a_loss_is_the_bound_on_average_however_t_is_drawn():
    """Also the hybrid loss, whose mean importance sampling must not move; and it lowers the noise of the bound."""
    process = Process(steps=T, loss="rescaled_kl")

    @jax.jit
    def computed():
        denoiser, params, schedule = network_of(process)
        x0 = jnp.broadcast_to(X0, (100, *SHAPE))
        denoise = lambda x, t: denoiser.apply({"params": params}, x, t)
        terms = diffusion.bits_per_dim(
            jax.random.key(9), denoise, schedule, x0, clip=False, variance="learned_range"
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
    processes = {1: Process(steps=T, loss="simple"), 2: Process(steps=T, loss="rescaled_mse")}
    assert {channels: process.p_variance for channels, process in processes.items()} == {
        1: "fixed_large", 2: "learned_range",
    }  # fmt: skip

    def exactly(process, channels):
        denoiser, params, schedule = network_of(process, channels=channels)
        four = jax.vmap(lambda key: jax.random.split(key, 4))(keys_of(50, 3))
        t = jax.vmap(lambda key: jax.random.randint(key, (), 0, T))(four[:, 0])
        x0 = jnp.broadcast_to(X0, (50, *SHAPE))
        x_t, noise = diffusion.q_sample(four[:, 1], schedule, x0, t)
        output = denoiser.apply({"params": params}, x_t, t)
        kind = "mse" if process.loss == "simple" else process.loss
        return diffusion.training_loss(schedule, output, x0, t, noise, kind=kind, variance=process.p_variance)

    @jax.jit
    def computed():
        return {
            process.loss: (losses(process, 50, channels=channels), exactly(process, channels))
            for channels, process in processes.items()
        }

    for loss, ((found, named), exact) in jax.device_get(computed()).items():
        np.testing.assert_allclose(found, exact.loss, rtol=1e-4, atol=1e-6, err_msg=loss)
        np.testing.assert_allclose(named["error"], exact.mse, rtol=1e-5, err_msg=loss)
        np.testing.assert_allclose(named["bound"], T * exact.vlb, rtol=1e-4, atol=1e-4, err_msg=loss)
        quarters = np.stack([named[f"error_quarter_{i}"] for i in (1, 2, 3, 4)])
        np.testing.assert_allclose(quarters.sum(axis=0), 4 * exact.mse, rtol=1e-5, err_msg=loss)


def test_labels_are_left_out_at_the_rate_and_the_null_label_comes_after_the_classes():
    process = Process(steps=T, loss="simple", prediction="x0")
    found, _ = jax.jit(lambda: losses(process, 2000, conditions=Conditions(10, 0.3), channels=1))()
    seen = np.rint(np.sqrt(np.asarray(found)))
    assert set(seen) == {7, 10} and abs((seen == 10).mean() - 0.3) < 4 * (0.21 / 2000) ** 0.5
    assert (Conditions(10).num_embedded, Conditions(10, 0.1).num_embedded, Conditions().num_embedded) == (10, 11, None)


def test_an_upsampler_sees_the_means_of_squares_beside_the_noise():
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 2)).astype(np.float32)

    class Net:
        def apply(self, variables, x, t, labels, keys):
            return x, t

    @jax.jit
    def computed(x, t):
        given = Conditions(0, 0.0, 2).given(x, None)
        seen = Denoiser(Net(), 4000).apply({}, x, t, **given)  # type: ignore[arg-type]
        return given["low_resolution"], seen, diffusion.with_low_resolution(x, given["low_resolution"])

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
    schedule = make_schedule(Process(steps=T))
    classifier = NoisyClassifier(Logits())  # type: ignore[arg-type]
    params = {"Dense_0": {"kernel": np.float32([[0.0, 1.0, -2.0]])}}
    x = np.broadcast_to(np.float32([0.5, -0.5])[:, None, None, None], (2, *SHAPE))
    batch = {"x": np.tile(x, (1000, 1, 1, 1)), "label": np.tile(np.int32([1, 0]), 1000)}

    @jax.jit
    def computed(batch):
        loss = lambda noised: guided_classifier.objective(
            guided_classifier.Classifier(noised=noised), schedule, classifier
        )(params, batch, keys_of(2000), context())
        return loss(False), loss(True)

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
        crop = lambda key: guided_classifier.random_crop(key, ramp, 0.8)
        return guided_classifier.random_crop(jax.random.key(0), ramp, 1.0), jax.vmap(crop)(keys_of(300))

    whole, cropped = jax.device_get(computed(ramp))
    np.testing.assert_allclose(whole, ramp, atol=1e-5)
    slopes = np.asarray(cropped[:, 3, 0, 0] - cropped[:, 2, 0, 0], np.float64)
    assert 0.8 <= slopes.min() < 0.82 and 0.98 < slopes.max() <= 1.0001
    # The square lies inside: row i shows (i + 1/2) share + start - 1/2, 0 <= start <= 8 (1 - share).
    start = np.asarray(cropped[:, 3, 0, 0], np.float64) + 0.5 - 3.5 * slopes
    room = 8 * (1 - slopes)
    assert (start > -1e-4).all() and (start < room + 1e-4).all()
    assert np.ptp(start[room > 1] / room[room > 1]) > 0.8


# A run


class Small(nn.Module):
    """Called as a U-Net, or without classes as its encoder, but compiled in no time."""

    in_channels: int = 1
    out_channels: int = 1
    num_classes: int | None = None
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, t, labels=None, keys=None):
        if self.num_classes is not None:
            x = x + nn.Embed(self.num_classes, 1)(labels)[:, None, None]
        if keys is not None:
            kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.dropout, x.shape[1:]))(keys)
            x = x * kept.astype(x.dtype)
        return nn.Dense(self.out_channels)(nn.tanh(nn.Dense(8)(x)))


class SmallEncoder(nn.Module):
    out_channels: int = 10
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, t, keys=None):
        return nn.Dense(self.out_channels)(x.reshape(x.shape[0], -1))


def make_networks_small(monkeypatch):
    def build(model, conditions, shape, *, learned, rescale=0):
        channels = 2 if conditions.low_resolution else 1
        return Denoiser(Small(channels, 2 if learned else 1, conditions.num_embedded, model.dropout), rescale)

    monkeypatch.setattr(guided_diffusion, "build", build)
    for module in (guided_diffusion, guided_classifier):
        monkeypatch.setattr(
            module,
            "build_classifier",
            lambda model, classes, shape, rescale=0: NoisyClassifier(SmallEncoder(classes, model.dropout), rescale),
        )


@pytest.fixture
def small_networks(monkeypatch):
    make_networks_small(monkeypatch)


def run(folder, config, whole=True):
    """Trains in a run directory and returns the metrics, or the last checkpoints' arrays."""
    prepared = guided_diffusion.prepare(config)
    grow = guided_diffusion.may_grow(config)
    with training.Run(folder, config, experiment="guided_diffusion", may_grow=grow, quiet=True) as opened:
        if whole:
            return guided_diffusion.train(config, prepared, opened)["metrics"]
        key, schedule = training.keys.root(config.seed), make_schedule(config.process)
        denoiser = guided_diffusion.build(config.network, prepared.conditions, SHAPE, learned=config.process.learned)
        process = config.process
        model = ddpm_evaluation.Model(denoiser, schedule, process.prediction, process.p_variance, SHAPE)
        classifier = guided_diffusion.fit_classifier(config, prepared, model, key, opened)
        state = guided_diffusion.fit(config, prepared, model, key, opened)
        return jax.device_get(state), classifier.params


def stopped(folder, config):
    """Trains four steps in the folder "resumed"."""
    run(folder / "resumed", changed(config, train__num_steps=4), whole=False)


def killed(folder, config):
    """Makes "resumed" of "whole", as if it had been killed after four steps."""
    shutil.copytree(folder / "whole", folder / "resumed")
    one_program.killed_after(4, folder / "resumed")


def check_resumed(folder, config, interrupt, last):
    """Eight steps at once, and interrupted after four: the same bits and metrics, of the history of losses too.

    Returns:
        The classifier's parameters, and what `last(folder, config)` returned for the second half.
    """
    _, classifier = run(folder / "whole", config, whole=False)
    interrupt(folder, config)
    found = last(folder / "resumed", config)
    for stage in ("", "classifier"):
        ends = [training.Checkpoints(folder / name / "checkpoints" / stage) for name in ("whole", "resumed")]
        assert [end.steps() for end in ends] == [[3] if stage else [4, 8]] * 2
        assert len({training.tree_digest(end.arrays(end.steps()[-1])) for end in ends}) == 1
    # All losses were remembered, and after the first steps t is no longer uniform.
    checkpoints = training.Checkpoints(folder / "resumed" / "checkpoints")
    for step in (4, 8):
        assert checkpoints.arrays(step)["state/model_state/counts"].sum() == step * 16
    lines = [json.loads(line) for line in (folder / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [(line.get("stage", ""), line["step"]) for line in lines] == [("classifier", 3), ("", 4), ("", 8)]
    assert lines == [json.loads(s) for s in (folder / "resumed" / "metrics.jsonl").read_text().splitlines()]
    assert lines[0].keys() >= {"right", "right_quarter_4"} and lines[1].keys() >= {"timestep", "bound", "error"}
    return classifier, found


SHORT_CHAIN = changed(
    process__steps=4, preview__steps="logsnr3", evaluation__sampler=Sampler(), evaluation__second=Sampler()
)


@pytest.mark.slow
def test_a_resumed_run_is_the_same_bit_for_bit_history_included(tmp_path, small_networks):
    check_resumed(tmp_path, SHORT_CHAIN, stopped, partial(run, whole=False))


def check_what_is_left_behind(folder, config, metrics):
    assert metrics["bits_per_dim"] == pytest.approx(metrics["rate"] + metrics["distortion"])
    names = [way.name for way in ways(config.guidance, config.evaluation)]
    for name in names:
        assert {f"{n}_{name}" for n in ("classifier_fid", "precision", "recall", "named_right_percent")} <= set(metrics)
    assert metrics["fid_samples"] == metrics["floor_images"] == 12 and metrics["noisy_accuracy_images"] == 7
    times = np.unique(np.rint(np.linspace(0, config.process.steps - 1, config.evaluation.levels)).astype(int))
    by_noise = [metrics[f"noisy_accuracy_percent_t{t}"] for t in times]
    assert metrics["noisy_accuracy_percent"] == pytest.approx(np.mean(by_noise))
    assert all(value * 7 / 100 == pytest.approx(round(value * 7 / 100)) for value in by_noise)
    figures = {path.stem for path in (folder / "figures").glob("*.png")} - {"preview-0000004"}
    assert figures == {"guided", "neighbours", "bound", "classifier", "tradeoff", "preview-0000008"}
    # Every way begins with the same noise, and guidance changes what becomes of it.
    pieces = folder / "evaluation" / "step-8"
    drawn = {p.name.removesuffix("-0-5.npz"): dict(np.load(p))["x"] for p in pieces.glob("samples-*-0-5.npz")}
    assert len(drawn) == len(names) and len({x.tobytes() for x in drawn.values()}) == len(names)


def check_measured_again(folder, config, metrics):
    """With fewer ways, and from the pieces: nothing is drawn a second time."""
    (folder / "measured.json").unlink()
    pieces = {path: path.stat().st_mtime_ns for path in (folder / "evaluation").rglob("*.npz")}
    found = run(folder, changed(config, guidance=Guidance(("none",))))
    assert pieces == {path: path.stat().st_mtime_ns for path in (folder / "evaluation").rglob("*.npz")}
    assert found == {name: metrics[name] for name in found} and "classifier_fid_unguided" in found
    assert len(found) < len(metrics)


FEW_WAYS = changed(
    SHORT_CHAIN, guidance=Guidance(("classifier",), (0.0, 30.0)), evaluation__sampler=Sampler("ddim"),
    evaluation__second_scales=(), evaluation__levels=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(folder of a small run that was stopped once, its classifier's parameters, its metrics)."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_few_programs(monkeypatch)
        classifier, metrics = check_resumed(folder, FEW_WAYS, killed, run)
    return folder / "resumed", classifier, metrics


def use_few_programs(monkeypatch):
    """Most of what the experiment computes outside of its steps is one program, or NumPy."""
    make_networks_small(monkeypatch)
    one_program.networks(monkeypatch)
    one_program.whole(monkeypatch, diffusion, "q_sample")
    one_program.pixel_features(monkeypatch)


def test_a_small_run_leaves_everything_behind(finished, monkeypatch):
    folder, _, metrics = finished
    use_few_programs(monkeypatch)
    check_what_is_left_behind(folder, FEW_WAYS, metrics)
    monkeypatch.setattr(guided_diffusion.guided_figures, "draw", lambda *_: None)
    check_measured_again(folder, FEW_WAYS, metrics)
    with pytest.raises(training.RunRefused, match="labels.dropout: 0.3 -> 0.2"):
        training.Run(folder, changed(FEW_WAYS, labels__dropout=0.2), experiment="guided_diffusion", quiet=True)


@pytest.mark.slow
def test_everything_is_measured_drawn_and_computed_once(tmp_path, small_networks, small_features):
    folder = tmp_path / "run"
    metrics = run(folder, TINY)
    check_what_is_left_behind(folder, TINY, metrics)
    check_measured_again(folder, changed(evaluation__second_scales=()), metrics)


@pytest.fixture
def small_features(monkeypatch):
    small = ddpm_evaluation.features.Settings(channels=2, num_features=4, steps=3, batch_size=8)
    cached = ddpm_evaluation.features.cached
    monkeypatch.setattr(ddpm_evaluation.features, "cached", lambda *data: cached(*data, small))


@pytest.mark.slow
def test_an_upsampler_trains_on_small_images_and_is_compared_with_the_truth(tmp_path, small_networks, small_features):
    config = changed(
        low_resolution=4, labels__dropout=0.0, timesteps=Timesteps(), guidance=Guidance(("none",)),
        classifier__num_steps=0, evaluation__second_scales=(),
    )  # fmt: skip
    metrics = run(tmp_path, config)
    assert {"bits_per_dim", "classifier_fid_unguided"} <= metrics.keys() and "noisy_accuracy_percent" not in metrics
    assert {"upsampled", "guided"} <= {path.stem for path in (tmp_path / "figures").glob("*.png")}


# Guidance


@pytest.fixture
def guided(tmp_path, monkeypatch, small_networks):
    """Untrained networks, ready to be drawn from; `made(guidance)`."""
    one_program.networks(monkeypatch)
    prepared = guided_diffusion.prepare(TINY)
    denoiser = guided_diffusion.build(TINY.network, prepared.conditions, SHAPE, learned=True)
    classifier = guided_diffusion.build_classifier(TINY.classifier.network, 10, SHAPE)
    params = denoiser.init(jax.random.key(0), SHAPE)
    trained = guided_classifier.Trained(classifier, classifier.init(jax.random.key(1), SHAPE))
    model = ddpm_evaluation.Model(denoiser, make_schedule(TINY.process), "noise", "learned_range", SHAPE)

    def made(guidance, step=0):
        measured = ddpm_evaluation.Measured(TINY.evaluation, model, params, jax.random.key(5), opened, step)
        return Guided(measured, guidance, prepared.conditions, trained, prepared.train_set, prepared.test_set)

    with training.Run(tmp_path, TINY, experiment="guided_diffusion", quiet=True) as opened:
        yield made, model, params


def test_guidance_of_the_model_alone_and_beyond_and_inside_its_interval(guided):
    made, model, params = guided
    whole = made(Guidance(("classifier", "classifier_free", "classifier_alone"), (0.0, 1.0, 3.0)))
    way = {w.name: w for w in whole.ways}
    alone = whole.samples(way["unguided"], 5)
    # Scales at which there is nothing to be seen of guidance, drawn through it all the same.
    for name, scale in (("classifier_1", 0.0), ("classifier_free_3", 1.0)):
        found = whole.samples(way[name]._replace(scale=scale), 5)
        assert np.abs(found.astype(int) - alone).max() <= 1
    # Without labels, and so all that it is guided from at scale 0: the model that is told the null label.
    nothing = {"labels": np.full(5, 10, np.int32)}
    keys = jax.jit(lambda key: jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(5)))(
        training.keys.stream(jax.random.key(5), "sample")
    )  # fmt: skip
    without = image_batches.to_bytes(model.sampler(TINY.evaluation.sampler)(params, keys, nothing))
    for name in ("without_labels", "classifier_free_3", "classifier_alone_3"):
        found = whole.samples(way[name]._replace(scale=0.0), 5)
        assert np.abs(found.astype(int) - without).max() <= 1
    for name in ("classifier_3", "classifier_free_3", "classifier_alone_3", "without_labels"):
        assert np.abs(whole.samples(way[name], 5).astype(int) - alone).max() > 1
    # Of the steps 0, 10, 20, 30 none is in (0.3, 0.45) of 0 to 39, and all are in (0, 0.8).
    for interval, close in (((0.3, 0.45), True), ((0.0, 0.8), False)):
        some = made(Guidance(("classifier",), (3.0,), interval))
        for name in ("classifier_3", "classifier_free_3"):
            expected = alone if close else whole.samples(way[name], 5)
            assert np.abs(some.samples(way[name], 5).astype(int) - expected).max() <= 1
    # The bound is of the images' own classes, samples are of the classes in turn.
    np.testing.assert_array_equal(whole.of_test_images(np.array([7, 3]))["labels"], whole.test_set.label[[7, 3]])
    np.testing.assert_array_equal(whole.told(np.arange(8, 13))["labels"], [8, 9, 0, 1, 2])


# Classifiers from elsewhere


def test_a_classifier_of_another_run_is_taken_if_it_fits(finished, tmp_path, small_networks):
    first, params, _ = finished
    config = changed(SHORT_CHAIN, guidance=Guidance(("classifier",)), evaluation__images=0, evaluation__samples=0)
    taken = changed(config, classifier__num_steps=0, classifier__trained=str(first))
    found = guided_diffusion.prepare(taken).classifier
    assert found is not None and training.tree_digest(found.params) == training.tree_digest(params)
    with pytest.raises(ValueError, match=r"another noise schedule: 'cosine', 4 steps.*process has 'cosine', 5 steps"):
        guided_diffusion.prepare(changed(taken, process__steps=5))
    with pytest.raises(ValueError, match=r"rescaled_timesteps False, and this run has True"):
        guided_diffusion.prepare(changed(taken, process__rescaled_timesteps=True))
    with pytest.raises(ValueError, match=r"classifier of 11 classes.*belongs to another model"):
        guided_diffusion.prepare(changed(taken, labels__classes=11))
    with pytest.raises(ValueError, match="a run of 'ddpm', which trains no classifier"):
        record = json.loads((first / "config.json").read_text())
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "config.json").write_text(json.dumps({**record, "experiment": "ddpm"}))
        guided_diffusion.prepare(changed(taken, classifier__trained=str(tmp_path / "other")))
    with pytest.raises(ValueError, match="for 0 of 3 steps; run it to the end"):
        (tmp_path / "other" / "config.json").write_text(json.dumps(record))
        guided_diffusion.prepare(changed(taken, classifier__trained=str(tmp_path / "other")))


def test_released_classifiers_say_which_schedule_they_are_of(tmp_path):
    file = tmp_path / "64x64_classifier.pt"
    file.write_bytes(b"")
    find = guided_classifier.find
    with pytest.raises(ValueError, match=r"schedule: 'cosine', 1000 steps, .* process has 'linear', 1000 steps"):
        find(str(file), Process("linear"), 1000, (64, 64, 3))
    with pytest.raises(ValueError, match="tells 1000 classes of images 64 x 64 x 3; the data has 10 and 8 x 8 x 1"):
        find(str(file), Process("cosine"), 10, SHAPE)
    with pytest.raises(ValueError, match="'x.pt' is not a released classifier; those are 64x64_classifier.pt"):
        find(str(file.rename(tmp_path / "x.pt")), Process("cosine"), 1000, (64, 64, 3))


# Data


def test_labels_come_with_images_from_disk_and_are_held_to_the_classes(tmp_path):
    write_images(tmp_path, 20, lambda i: str(i % 3))
    images, _ = image_batches.load(image_batches.Data("images", str(tmp_path), on_disk=True))
    order = training.keys.stream(training.keys.root(0), "order")
    flipped = guided_training.batches(images, 6, image_batches.Data(flip=True), 3)
    made = flipped.make(order, 0, np.arange(6, dtype=np.int32))  # type: ignore
    values = np.rint((made["x"][:, 0, 0, 0] + 1) * 127.5 / 10).astype(int)
    np.testing.assert_array_equal(values % 3, made["label"])
    with pytest.raises(ValueError, match="outside the 2 classes 0 to 1"):
        guided_training.batches(images, 18, image_batches.Data(), 2).make(order, 0, np.arange(18, dtype=np.int32))  # type: ignore
    config = changed(data=image_batches.Data("images", str(tmp_path), on_disk=True), labels__classes=0)
    with pytest.raises(ValueError, match="labels on disk are not counted"):
        guided_diffusion.prepare(config)
