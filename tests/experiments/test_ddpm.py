"""The experiment: presets, refusals, losses against the bound, the average, resuming, sampling, what is measured."""

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

from experiments import command, ddpm, ddpm_evaluation, ddpm_figures, image_batches, optimizers
from jaxgen import diffusion, training

TINY = ddpm.Config(
    data=image_batches.Data(flip=True),
    network=ddpm.Network(4, (1,), 1, (), groups=2, dropout=0.5),
    process=ddpm.Process(steps=40),
    optimizer=optimizers.Optimizer("adam", 1e-2, clip=1.0),
    ema=0.99,
    preview_every=2,
    preview=ddpm.Sampler("dpm_solver", "logsnr4"),
    evaluation=ddpm.Evaluation(images=5, samples=12, sampler=ddpm.Sampler(steps="6"), batch_size=4),
    train=training.Settings(num_steps=4, batch_size=8, log_every=2, save_every=2, devices=1),
)
SHAPE = (8, 8, 1)


def changed(**fields):
    """TINY with fields such as network__dropout=0."""
    config = TINY
    for name, value in fields.items():
        outer, _, inner = name.partition("__")
        if inner:
            value = dataclasses.replace(getattr(config, outer), **{inner: value})
        config = dataclasses.replace(config, **{outer: value})
    return config


def model_of(config, network=None):
    process, schedule = config.process, ddpm.make_schedule(config.process)
    network = network or ddpm.build(config.network, process, SHAPE)
    return ddpm_evaluation.Model(network, schedule, process.prediction, process.variance, SHAPE)


@partial(jax.jit, static_argnums=(0, 1))
def keys_of(num, seed=0):
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(num))


# Settings


def test_the_papers_networks_and_settings():
    for preset in ("cifar10", "celeba_hq_256", "lsun"):
        config = ddpm.PRESETS[preset]
        side = 32 if preset == "cifar10" else 256
        # Whose parameters are counted where the network is tested.
        assert ddpm.build(config.network, config.process, (side, side, 3)) == diffusion.ddpm_unet(side)
        assert config.data.flip and config.train.deterministic and not config.ema_warm_up and config.ema == 0.9999
        assert config.process == ddpm.Process("linear", 1000, 0, 0, "noise", "fixed_large", "simple")
        chosen = config.optimizer
        assert (chosen.name, chosen.warmup_steps, chosen.clip, chosen.schedule) == ("adam", 5000, 1.0, "constant")
        assert config.evaluation.sampler == ddpm.Sampler() and ddpm.may_grow(config) == ("train.num_steps",)
    seen = {n: (c.optimizer.learning_rate, c.train.batch_size, c.train.num_steps) for n, c in ddpm.PRESETS.items()}
    assert seen["cifar10"] == (2e-4, 128, 800_000)
    assert seen["celeba_hq_256"] == (2e-5, 64, 500_000)
    assert seen["lsun"] == (2e-5, 64, 1_200_000)
    narrow = ddpm.build(ddpm.Network(dtype="bfloat16", remat=True), ddpm.Process(variance="learned"), (8, 8, 1))
    assert (narrow.dtype, narrow.remat, narrow.in_channels, narrow.out_channels) == (jnp.bfloat16, True, 1, 2)


def test_schedules_are_those_of_the_library():
    np.testing.assert_allclose(ddpm.make_schedule(ddpm.Process()).alphas_bar[-1], 4.03582976538e-05, rtol=1e-6)
    cosine = ddpm.make_schedule(ddpm.Process("cosine", 4000))
    np.testing.assert_allclose(cosine.betas[0], 9.865818814e-06, rtol=1e-6)
    constant = ddpm.make_schedule(ddpm.Process("constant", 10, end=0.3))
    np.testing.assert_allclose(constant.betas, 0.3, rtol=1e-6)
    warm = ddpm.make_schedule(ddpm.Process("warmup", 100))
    np.testing.assert_allclose(np.asarray(warm.betas)[[0, 9, 10, 99]], [0.001, 0.2, 0.2, 0.2], rtol=1e-6)
    square = ddpm.make_schedule(ddpm.Process("quadratic", 3, 0.01, 0.09))
    np.testing.assert_allclose(square.betas, [0.01, 0.04, 0.09], rtol=1e-6)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"process__steps": 0}, "num_steps is 0"),
        ({"process__end": 1.5}, "inside"),
        ({"process__steps": 20}, "below 1 for T = 20"),
        ({"evaluation__sampler": ddpm.Sampler(steps="ddim37")}, "cannot be made of 40 steps"),
        ({"preview": ddpm.Sampler(steps="41")}, "41"),
        ({"evaluation__sampler": ddpm.Sampler(eta=0.5)}, "eta is 0.5 with method 'ancestral'"),
        ({"network__multipliers": (1, 1, 1, 1, 1)}, "8 x 8 cannot be halved 4 times; the nearest size that can is 16"),
        ({"network__groups": 3}, "3"),
        ({"network__dropout": 1.0}, "dropout is 1.0"),
        ({"process__loss": "hybrid"}, "--process.variance learned_range"),
        ({"process__variance": "learned"}, "--process.loss hybrid"),
        ({"ema": 1.0}, "ema is 1.0"),
        ({"preview_every": -1}, "preview_every is -1"),
        ({"evaluation__images": 361}, "the test split has 360"),
        ({"evaluation__samples": 3}, "at least 10"),
        ({"evaluation__batch_size": 0}, "batch_size at least 1"),
        ({"optimizer__learning_rate": 0.0}, "learning_rate is 0"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(fields, message):
    with pytest.raises(ValueError, match=message):
        ddpm.prepare(changed(**fields))


def test_data_without_labels_have_no_classifier():
    images = image_batches.Images(np.zeros((9, *SHAPE), np.uint8), None, "none")
    evaluation = ddpm.Evaluation(images=3, samples=10)
    with pytest.raises(ValueError, match="--evaluation.samples 0, or give Inception's weights"):
        evaluation.check(images, images)
    with pytest.raises(FileNotFoundError, match="nowhere.pth"):
        dataclasses.replace(evaluation, inception="nowhere.pth").check(images, images)
    dataclasses.replace(evaluation, samples=0).check(images, images)


# Losses


class Constant:
    """A "network" that ignores x: its parameters are its output, one for each step of the chain."""

    dropout = 0.0

    def apply(self, variables, x, t, keys=None):
        return variables["params"][t]


def losses(process, params, num):
    """The objective on `num` copies of X0, each with a key of its own."""
    loss = ddpm.objective(process, ddpm.make_schedule(process), Constant())  # type: ignore[arg-type]
    batch = {"x": jnp.broadcast_to(X0, (num, *X0.shape[1:]))}
    return loss(params, batch, keys_of(num, 3), training.update.Context(jnp.int32(0)))


X0 = np.linspace(-0.9, 0.9, 6, dtype=np.float32).reshape(1, 1, 6, 1)


def outputs(scale, *shape):
    return (scale * np.random.default_rng(1).normal(size=shape)).astype(np.float32)


def test_the_bound_as_a_loss_is_the_bound_in_bits_per_dim_on_average():
    process = ddpm.Process(steps=30, loss="bound")
    schedule = ddpm.make_schedule(process)

    @jax.jit
    def both(params):
        denoise = lambda x, t: params[t]
        x0 = jnp.broadcast_to(X0, (500, *X0.shape[1:]))
        exact = diffusion.bits_per_dim(jax.random.key(9), denoise, schedule, x0, clip=False)
        return losses(process, params, 20_000)[0], exact.terms

    found, terms = (np.asarray(x, np.float64) for x in both(outputs(0.5, 30, 1, 6, 1)))
    per_image = terms.sum(axis=1)
    error = math.hypot(found.std() / len(found) ** 0.5, per_image.std() / len(per_image) ** 0.5)
    assert abs(found.mean() - per_image.mean()) < 4 * error and error < 0.03 * per_image.mean()


def test_the_simple_loss_has_the_noise_s_own_variance_and_its_quarters_add_up():
    params = np.zeros((30, 1, 6, 1), np.float32)
    found, named = jax.device_get(jax.jit(partial(losses, ddpm.Process(steps=30), num=4000))(params))
    np.testing.assert_allclose(found.mean(dtype=np.float64), 1, atol=4 * math.sqrt(2 / 6 / 4000))
    quarters = np.stack([named[f"error_quarter_{i}"] for i in (1, 2, 3, 4)])
    np.testing.assert_allclose(quarters.sum(axis=0), 4 * found, rtol=1e-6)
    assert ((quarters > 0).sum(axis=0) == 1).all()
    shares = (quarters > 0).mean(axis=1)
    np.testing.assert_allclose(shares, [8 / 30, 7 / 30, 8 / 30, 7 / 30], atol=0.03)


def test_the_hybrid_loss_trains_the_variance_by_the_bound_and_the_rest_by_the_error():
    hybrid = ddpm.Process(steps=30, variance="learned_range", loss="hybrid", bound_weight=0.01)
    processes = {
        "hybrid": hybrid,
        "bound": dataclasses.replace(hybrid, loss="bound"),
        "simple": dataclasses.replace(hybrid, bound_weight=0.0),
    }

    @jax.jit
    def gradients(params):
        mean = lambda process: lambda params: jnp.mean(losses(process, params, 200)[0])
        return {name: jax.grad(mean(process))(params) for name, process in processes.items()}

    found = jax.device_get(gradients(outputs(0.3, 30, 1, 6, 2)))
    hybrid, bound, simple = found["hybrid"], found["bound"], found["simple"]
    np.testing.assert_allclose(hybrid[..., 0], simple[..., 0], rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(hybrid[..., 1], 0.01 * bound[..., 1], rtol=1e-4, atol=1e-8)
    assert np.any(bound[..., 1] != 0) and np.all(simple[..., 1] == 0)


# A run


def trained(folder, config, num_steps, preview_every=2):
    """Trains in a run directory and returns (state, figures' bytes)."""
    config = dataclasses.replace(
        config, preview_every=preview_every, train=dataclasses.replace(config.train, num_steps=num_steps)
    )
    train_set, _ = ddpm.prepare(config)
    grow = ddpm.may_grow(config)
    with training.Run(folder, config, experiment="ddpm", may_grow=grow, quiet=True) as run:
        state = ddpm.fit(config, model_of(config), train_set, training.keys.root(config.seed), run)
        return jax.device_get(state), {path.name: path.read_bytes() for path in run.figures.glob("*.png")}


def stopped(folder, config):
    """Trains two steps in the folder "resumed"."""
    trained(folder / "resumed", config, 2)


def killed(folder, config):
    """Makes "resumed" of "whole", as if it had been killed after two steps."""
    shutil.copytree(folder / "whole", folder / "resumed")
    one_program.killed_after(2, folder / "resumed")
    (folder / "resumed" / "figures" / "preview-0000004.png").unlink()


def check_resumed(folder, config, interrupt, last, preview_every=2):
    """One training of four steps, and one that was interrupted after two: the same bits, the same last preview.

    Returns:
        The last state, and what `last(folder, config)` returned for the second half.
    """
    whole, previews = trained(folder / "whole", config, 4, preview_every)
    interrupt(folder, config)
    figures = folder / "resumed" / "figures"
    first = (figures / "preview-0000002.png").read_bytes()
    assert [path.name for path in figures.iterdir()] == ["preview-0000002.png"]
    found = last(folder / "resumed", config)
    runs = [training.Checkpoints(folder / name / "checkpoints") for name in ("whole", "resumed")]
    ends = {training.tree_digest(run.arrays(4)) for run in runs}
    assert len(ends) == 1 and training.tree_digest(runs[1].arrays(2)) not in ends
    assert previews["preview-0000004.png"] == (figures / "preview-0000004.png").read_bytes() != first
    return whole, found


@pytest.mark.slow
def test_a_resumed_run_is_the_same_bit_for_bit(tmp_path):
    check_resumed(tmp_path, TINY, stopped, partial(trained, num_steps=4), preview_every=4)


class Small(nn.Module):
    """As a U-Net is called, but compiled in no time."""

    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, t, labels=None, keys=None):
        if keys is not None:
            kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.dropout, SHAPE))(keys)
            x = x * kept.astype(x.dtype)
        return nn.Dense(1)(nn.tanh(nn.Dense(8)(x)))


@pytest.fixture
def small_network(monkeypatch):
    monkeypatch.setattr(ddpm, "build", lambda model, process, shape: Small(model.dropout))


def measured_run(folder, config):
    prepared = ddpm.prepare(config)
    grow = ddpm.may_grow(config)
    with training.Run(folder, config, experiment="ddpm", preset="quick", may_grow=grow, quiet=True) as opened:
        return ddpm.train(config, prepared, opened)["metrics"]


def check_what_is_left_behind(folder, metrics):
    assert metrics["bits_per_dim"] == pytest.approx(metrics["rate"] + metrics["distortion"])
    assert metrics["bound_images"] == 5 and metrics["fid_samples"] == metrics["floor_images"] == 12
    assert {"classifier_fid", "classifier_fid_floor", "precision", "recall_floor"} <= metrics.keys()
    figures = {path.stem for path in (folder / "figures").glob("*.png")}
    assert figures >= {"samples", "neighbours", "denoising", "interpolations", "bound", "preview-0000004"}
    assert json.loads((folder / "results.json").read_text())["paper"] == {}


def check_evaluation_continued(folder, config, metrics):
    """An evaluation that was cut off goes on from its pieces: what stands in them is what is reported.

    What is measured may change on a trained run.
    """
    (folder / "measured.json").unlink()
    pieces = sorted((folder / "evaluation" / "step-4").glob("bound-*"))
    assert [path.name for path in pieces] == ["bound-0-4.npz", "bound-4-4.npz"]
    arrays = dict(np.load(pieces[1]))
    np.savez(pieces[1], **{**arrays, "prior": arrays["prior"] + np.float32(10)})
    times = lambda: {path: path.stat().st_mtime_ns for path in (folder / "evaluation").rglob("*.npz")}
    before = times()
    evaluation = dataclasses.replace(config.evaluation, samples=10)
    again = measured_run(folder, dataclasses.replace(config, evaluation=evaluation))
    assert times() == before and again["fid_samples"] == 10
    assert again["bits_per_dim"] == pytest.approx(metrics["bits_per_dim"] + 10 / 5)


def test_a_small_run_leaves_everything_behind_and_resumes(tmp_path, monkeypatch, small_network):
    one_program.networks(monkeypatch)
    one_program.pixel_features(monkeypatch)
    config = changed(train__save_every=1, train__keep_checkpoints=4)
    end, metrics = check_resumed(tmp_path, config, killed, measured_run)
    folder = tmp_path / "resumed"
    # The average forgets the random start: after one step it is 1/10 of the start and 9/10 of the new parameters, not
    # 99/100 and 1/100.
    average = ddpm.init(model_of(TINY).network, training.keys.stream(training.keys.root(0), "params"), SHAPE)
    average = jax.tree.map(lambda x: np.asarray(x, np.float64), average)
    with training.Checkpoints(folder / "checkpoints") as checkpoints:
        for step in range(1, 5):
            arrays = checkpoints.arrays(step)
            decay = min(0.99, step / (9 + step))
            params = {n.partition("/params/")[2]: x for n, x in arrays.items() if n.startswith("state/params/")}
            average = {
                layer: {name: decay * x + (1 - decay) * params[f"{layer}/{name}"] for name, x in of_layer.items()}
                for layer, of_layer in average.items()
            }
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), end.ema, average)
    check_what_is_left_behind(folder, metrics)
    monkeypatch.setattr(ddpm_figures, "draw", lambda *_: None)
    check_evaluation_continued(folder, config, metrics)
    with pytest.raises(training.RunRefused, match=r"network.dropout: 0.5 -> 0.25"):
        training.Run(folder, changed(network__dropout=0.25), experiment="ddpm", quiet=True)


@pytest.mark.slow
def test_everything_is_left_behind_and_nothing_is_computed_twice(tmp_path, monkeypatch, small_network):
    small = ddpm_evaluation.features.Settings(channels=2, num_features=4, steps=3, batch_size=8)
    cached = ddpm_evaluation.features.cached
    monkeypatch.setattr(ddpm_evaluation.features, "cached", lambda *data: cached(*data, small))
    folder = tmp_path / "run"
    metrics = measured_run(folder, TINY)
    check_what_is_left_behind(folder, metrics)
    check_evaluation_continued(folder, TINY, metrics)


def test_a_command_that_is_wrong_says_what_would_be_right(monkeypatch, capsys, tmp_path):
    arguments = ["ddpm", "quick", "--evaluation.sampler.steps", "ddim999", "--workdir", str(tmp_path / "run")]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit):
        command.main("ddpm", ddpm.PRESETS, ddpm.prepare, ddpm.train, "", may_grow=ddpm.may_grow)
    assert "the counts that can are" in capsys.readouterr().err and not (tmp_path / "run").exists()


# Sampling and measuring


class Counted(Constant):
    """Counts how often it is traced."""

    def __init__(self):
        self.traces = 0

    def apply(self, variables, x, t, keys=None):
        self.traces += 1
        return variables["params"] * x


def test_sampling_a_thousand_steps_is_one_compiled_program():
    network = Counted()
    model = model_of(changed(process__steps=1000), network)
    draw = model.sampler(ddpm.Sampler())
    draw(jnp.float32(0.5), keys_of(2))
    once = network.traces
    draw(jnp.float32(0.7), keys_of(2, 5))
    assert network.traces == once <= 2


def test_a_sample_depends_on_its_own_key_and_not_on_its_batch():
    draw = model_of(TINY, Counted()).sampler(ddpm.Sampler(steps="8"))
    scale = jnp.float32(0.5)
    together = draw(scale, keys_of(5))
    np.testing.assert_allclose(draw(scale, keys_of(5)[3:4])[0], together[3], atol=1e-6)
    assert np.abs(together[3] - together[2]).max() > 0.1


def test_a_learned_variance_can_be_left_out_when_drawing():
    model = model_of(changed(process__variance="learned_range"), Counted())._replace(shape=(2, 2, 2))
    fixed = model_of(TINY, Counted())._replace(shape=(2, 2, 2), variance="fixed_small")
    doubled = jnp.float32(0.3)
    two = lambda x: jnp.concatenate([x, jnp.full_like(x, 7.0)], axis=-1)
    model.network.apply = lambda variables, x, t: two(variables["params"] * x)  # type: ignore[method-assign]
    found = model.sampler(ddpm.Sampler(steps="5", variance="fixed_small"))(doubled, keys_of(3))
    np.testing.assert_allclose(found, fixed.sampler(ddpm.Sampler(steps="5"))(doubled, keys_of(3)), atol=1e-6)


def test_the_bound_s_parts_and_its_standard_error():
    found = {
        "prior": np.array([0.1, 0.3]),
        "terms": np.array([[2.0, 0.5, 0.25], [1.0, 0.5, 0.75]]),
        "noise_mse": np.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]),
    }
    expected = {
        "bits_per_dim": 2.7, "bits_per_dim_standard_error": 0.15, "rate": 1.2, "distortion": 1.5, "prior_kl": 0.2,
        "noise_error": 1 / 3, "bound_images": 2,
    }  # fmt: skip
    assert ddpm_evaluation.bound_metrics(found) == pytest.approx(expected)


def test_a_training_image_is_its_own_nearest_neighbour():
    image = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), dtype=np.uint8)
    picture = ddpm_figures.neighbours(image[[7, 3]], image_batches.Images(image, None, "none"), num=1)
    upper, lower = picture[6:54, -108:], picture[60:108, -108:]
    np.testing.assert_array_equal(upper, lower)
