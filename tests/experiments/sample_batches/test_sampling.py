"""Samples by number: what they depend on, that devices do not matter, and what does not fit together."""

import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments.sample_batches import sampling
from experiments.sample_batches.sampling import SampleRequest
from jaxgen import data, diffusion, metrics, pictures, training
from jaxgen.diffusion import Sampler, model_sampler
from tests.diffusion.pretrained.toys import (
    CLASSES,
    CLASSIFIER,
    CONDITIONAL,
    FREE,
    PLAIN,
    SCHEDULE,
    SIZE,
    UPSAMPLER,
    Toy,
    ToyClassifier,
    changed,
    trained,
)

NUM = 7
FEW = Sampler("ddim", "ddim5")
LOW_LABELS = np.arange(9, dtype=np.int64) % CLASSES
LOW = metrics.SampleBatch(np.random.default_rng(9).integers(0, 256, (9, 2, 2, 3), np.uint8), LOW_LABELS, {}, {})


def drawn(tmp_path, network, num=NUM, sampler=FEW, devices=1, name="p.npz", batch_size=4, **options):
    request = SampleRequest(network, sampler, **options)
    sampling.write(tmp_path / name, num, request, devices=jax.devices()[:devices], batch_size=batch_size)
    return metrics.read_sample_batch(tmp_path / name)


def noise_keys(num, seed=0):
    stream = training.keys.stream(training.keys.root(seed), "sample")
    return jax.vmap(jax.random.fold_in, (None, 0))(stream, jnp.arange(num))


@functools.cache
def noise(seed):
    """x_T of samples 0 to 6, [7, H, W, 3]."""
    zeros = lambda x, t: jnp.zeros_like(x)
    schedule = diffusion.respace(SCHEDULE, "ddim5")
    start = lambda keys: diffusion.sample_trajectory(keys, zeros, (NUM, SIZE, SIZE, 3), schedule, 5, method="ddim").x_t
    return np.asarray(jax.jit(start)(noise_keys(NUM, seed))[0], np.float64)


def dense(model, h):
    layer = model.params["Dense_0"]
    return h @ layer["kernel"].astype(np.float64) + layer["bias"]


def network(pretrained, labels=None):
    """(x, t) -> the output of a `Toy` for the labels, in float64."""

    def output(x, t):
        h = np.concatenate([x.reshape(len(x), -1), np.full((len(x), 1), t / 40)], axis=1)
        if labels is not None:
            h = np.concatenate([h, np.eye(pretrained.model.network.num_classes)[labels]], axis=1)
        return np.tanh(dense(pretrained, h)).reshape(*x.shape[:3], pretrained.model.network.out_channels)

    return output


def log_probability_gradient(model, labels):
    """x -> d/dx log p(label | x) of a `ToyClassifier`, in float64."""

    def gradient(x):
        logits = dense(model, x.reshape(len(x), -1))
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        chosen = np.eye(CLASSES)[labels] - p / p.sum(axis=1, keepdims=True)
        return (chosen @ model.params["Dense_0"]["kernel"].T.astype(np.float64)).reshape(x.shape)

    return gradient


def by_ddim(output, num, seed=0, gradient=None, scale=1.0):
    """The samples of five steps of DDIM in float64, as bytes; guidance is Dhariwal & Nichol's algorithm 2 (2021)."""
    schedule, x = diffusion.respace(SCHEDULE, "ddim5"), noise(seed)[:num]
    bars, timesteps = np.asarray(schedule.alphas_bar, np.float64), np.asarray(schedule.timesteps)
    for t in range(4, -1, -1):
        bar, before = bars[t], bars[t - 1] if t else 1.0
        x0 = np.clip((x - np.sqrt(1 - bar) * output(x, timesteps[t])[..., :3]) / np.sqrt(bar), -1, 1)
        eps = (x - np.sqrt(bar) * x0) / np.sqrt(1 - bar)
        if gradient is not None:
            eps = eps - np.sqrt(1 - bar) * scale * gradient(x)
            x0 = (x - np.sqrt(1 - bar) * eps) / np.sqrt(bar)
        x = np.sqrt(before) * x0 + np.sqrt(1 - before) * eps
    return data.to_bytes(x)


def assert_close(found, expected):
    """Equal to rounding, which may move a pixel to the next level."""
    apart = np.abs(found.astype(int) - expected.astype(int))
    assert apart.max() <= 1 and np.mean(apart) < 0.02


def test_samples_are_those_of_the_sampler_on_any_devices(tmp_path):
    """Seven samples are a batch of four and one of three, so a sample does not depend on its place in a batch."""
    one = drawn(tmp_path, PLAIN, seed=3)
    assert one.label is None and one.image.shape == (7, SIZE, SIZE, 3) and np.std(one.image) > 20
    assert_close(one.image, by_ddim(network(PLAIN), 7, seed=3))
    two = drawn(tmp_path, PLAIN, seed=3, devices=2, name="two.npz")
    np.testing.assert_array_equal(two.image, one.image)


@pytest.mark.slow
def test_another_batch_size_and_number_give_the_same_samples(tmp_path):
    assert_close(drawn(tmp_path, PLAIN, 5, seed=3, batch_size=3).image, by_ddim(network(PLAIN), 5, seed=3))


@pytest.fixture(scope="module")
def guided(tmp_path_factory):
    """The file of five samples of the classes 2 and 0 in turn, drawn with a classifier's guidance of scale 2.5."""
    folder = tmp_path_factory.mktemp("guided")
    drawn(folder, CONDITIONAL, 5, classifier=CLASSIFIER, scale=2.5, labels="2,0")
    return folder / "p.npz"


def test_a_class_a_classifier_and_its_scale(guided, tmp_path):
    labels, batch = np.array([2, 0, 2, 0, 2]), metrics.read_sample_batch(guided)
    guidance = {"gradient": log_probability_gradient(CLASSIFIER, labels), "scale": 2.5}
    np.testing.assert_array_equal(batch.label, labels)
    assert_close(batch.image, by_ddim(network(CONDITIONAL, labels), 5, **guidance))
    assert not np.array_equal(batch.image, by_ddim(network(CONDITIONAL, labels), 5))
    # The classifier alone says what the class is.
    batch = drawn(tmp_path, PLAIN, 5, classifier=CLASSIFIER, scale=2.5, labels="2,0", name="u.npz")
    assert_close(batch.image, by_ddim(network(PLAIN), 5, **guidance))


def test_classifier_free_guidance_and_a_fixed_variance(tmp_path):
    """DDIM does not use the variance, so another one gives the same samples."""
    labels = np.array([0, 1, 2, 0])
    conditional, unconditional = network(FREE, labels), network(FREE, np.full(4, CLASSES))
    guided = lambda x, t: unconditional(x, t) + 3 * (conditional(x, t) - unconditional(x, t))
    batch = drawn(tmp_path, FREE, 4, Sampler("ddim", "ddim5", variance="fixed_small"), scale=3.0, labels="cycle")
    assert_close(batch.image, by_ddim(guided, 4))


@pytest.mark.parametrize(
    "sampler, variance",
    [
        (Sampler("ancestral", "5", variance="fixed_small"), "fixed_small"),
        (Sampler("ancestral", "5", variance="fixed_large"), "fixed_large"),
        (Sampler("ddim", "ddim5", eta=0.5), "learned_range"),
    ],
)
def test_the_sampler_s_settings_reach_diffusion(sampler, variance, monkeypatch):
    def spy(keys, denoise, shape, schedule, *, options, guidance):
        assert (shape, schedule.num_steps, guidance) == ((4, SIZE, SIZE, 3), 5, None)
        assert (options.method, options.eta, options.variance) == (sampler.method, sampler.eta, variance)
        output = denoise(jnp.zeros(shape), jnp.zeros(4, jnp.int32))
        assert output.shape[-1] == (6 if variance == "learned_range" else 3)
        return output

    monkeypatch.setattr(model_sampler, "sample", spy)
    draw = diffusion.make_sampler(FREE.model, SampleRequest(FREE, sampler).variant)
    cond = {"labels": jax.ShapeDtypeStruct((4,), jnp.int32)}
    jax.eval_shape(draw, {"denoiser": FREE.params}, jax.eval_shape(lambda: noise_keys(4)), cond)


@pytest.mark.slow
def test_ancestral_sampling_takes_the_fixed_variance(tmp_path):
    labels = np.array([0, 1, 2, 0])
    fixed = drawn(tmp_path, FREE, 4, sampler=Sampler("ancestral", "5", variance="fixed_small"), labels="cycle")
    half = lambda x, t: FREE.model.network.apply({"params": FREE.params}, x, t, jnp.asarray(labels))[..., :3]
    schedule = diffusion.respace(SCHEDULE, "5")
    draw = lambda keys: diffusion.sample(keys, half, (4, SIZE, SIZE, 3), schedule, variance="fixed_small")
    assert_close(fixed.image, data.to_bytes(jax.jit(draw)(noise_keys(4))))


def test_an_upsampler_enlarges_the_image_of_the_same_number(tmp_path):
    low = data.signed(LOW.image[:7]).astype(np.float64)
    # Bilinear, with half-pixel centres: weights of the two small pixels in each of the four large ones.
    weights = np.array([[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    large = np.einsum("iu,jv,nuvc->nijc", weights, weights, low)
    denoise = network(UPSAMPLER, LOW_LABELS[:7])
    batch = drawn(tmp_path, UPSAMPLER, low=LOW)
    np.testing.assert_array_equal(batch.label, LOW_LABELS[:7])
    assert_close(batch.image, by_ddim(lambda x, t: denoise(np.concatenate([x, large], axis=-1), t), 7))


def test_labels_depend_on_their_numbers_alone():
    key, others = training.keys.root(1), np.random.default_rng(0).integers(0, 600, 600)
    found = sampling.labels_of(key, np.arange(600), "random", CLASSES)
    np.testing.assert_array_equal(sampling.labels_of(key, others, "random", CLASSES), found[others])
    # Each class 200 times, give or take 4 standard deviations of sqrt(600 / 3 x 2 / 3).
    assert np.all(np.abs(np.bincount(found, minlength=CLASSES) - 200) < 4 * 11.6)
    np.testing.assert_array_equal(sampling.labels_of(key, np.array([2, 3, 4]), "cycle", CLASSES), [2, 0, 1])


def test_pixels_are_the_nearest_or_truncated():
    x = (np.array([-2, 0, 0.6, 254.9, 255, 400]) / 127.5 - 1).astype(np.float32)
    np.testing.assert_array_equal(sampling.in_bytes(x, "nearest"), [0, 0, 1, 255, 255, 255])
    np.testing.assert_array_equal(sampling.in_bytes(x, "truncated"), [0, 0, 0, 254, 255, 255])


def test_another_network_seed_or_guidance_is_another_batch(guided, tmp_path):
    shutil.copy(guided, tmp_path / "p.npz")
    other = CONDITIONAL._replace(params=jax.tree.map(lambda x: 2 * x, CONDITIONAL.params))
    for model, options, name in (
        (other, {}, "network"),
        (CONDITIONAL, {"seed": 1}, "seed"),
        (CONDITIONAL, {"classifier": None, "scale": 1.0}, "classifier"),
        (CONDITIONAL, {"pixels": "truncated"}, "pixels"),
    ):
        with pytest.raises(ValueError, match=f"samples of other settings(?s:.*)\n  {name}: "):
            drawn(tmp_path, model, 5, **{"classifier": CLASSIFIER, "scale": 2.5, "labels": "2,0", **options})


IMAGE = np.random.default_rng(3).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
MASK = np.arange(SIZE)[:, None, None] < np.full((1, SIZE, 1), 2)
COSINE = changed(CLASSIFIER, schedule=diffusion.make_schedule(diffusion.cosine_betas(40)))
LARGE = changed(CLASSIFIER, shape=(8, 8, 3))
FIVE = trained(ToyClassifier(out_channels=5), 5)


@pytest.mark.parametrize(
    "network, options, message",
    [
        (CLASSIFIER, {}, "is a classifier, which draws nothing"),
        (PLAIN, {"scale": 2.0}, "guidance of scale 2 with toy 0, a network without classes: it needs a"),
        (CONDITIONAL, {"scale": 2.0}, "never trained without labels"),
        (CONDITIONAL, {"classifier": PLAIN}, "--classifier is toy 0, which draws images"),
        (CONDITIONAL, {"classifier": COSINE}, "for another noise schedule: toy 4: T = 40, beta .* toy 1: T = 40"),
        (CONDITIONAL, {"classifier": FIVE}, "toy 5 knows 5 classes, toy 1 3"),
        (CONDITIONAL, {"classifier": LARGE}, "toy 4 classifies images of 8 x 8 x 3, toy 1 draws 4 x 4 x 3"),
        (PLAIN, {"sampler": Sampler("ddim", "ddim50")}, "50"),
        (PLAIN, {"sampler": Sampler(eta=0.5)}, "eta is 0.5 with method 'ancestral'"),
        (FREE, {"scale": np.inf}, "the scale is inf"),
        (FREE, {"scale": 2.0, "interval": (5, 0)}, r"the interval is \[5, 0\]"),
        (PLAIN, {"known": sampling.Known(IMAGE[:2], MASK[:2])}, r"to inpaint is \[2, 4, 3\], toy 0 draws \[4, 4, 3\]"),
        (
            PLAIN,
            {"known": sampling.Known(IMAGE, MASK), "sampler": Sampler("dpm_solver")},
            "inpainting takes the method",
        ),
        (CONDITIONAL, {"interval": (0, 5)}, "--interval belongs to classifier-free"),
        (PLAIN, {"labels": "1"}, "labels '1' for toy 0, a network without classes"),
        (CONDITIONAL, {"labels": "1,3"}, r"labels \[3\] are none of the classes, which are 0 to 2"),
        (FREE, {"labels": "3"}, r"labels \[3\] are none of the classes, which are 0 to 2"),
        (CONDITIONAL, {"labels": "dog"}, "labels are 'dog'; expected 'random', 'cycle' or"),
        (UPSAMPLER, {}, "enlarges images of 2 pixels: give a sample batch"),
        (PLAIN, {"low": LOW}, "--low-resolution is for networks that enlarge"),
        (UPSAMPLER, {"low": LOW._replace(image=LOW.image[:3])}, r"holds 3 images \[2, 2, 3\]; expected 7 or more"),
        (UPSAMPLER, {"low": LOW._replace(label=LOW_LABELS + 3)}, "has label 5; there are 3 classes"),
    ],
)
def test_what_does_not_fit_together_is_named(network, options, message):
    with pytest.raises(ValueError, match=message):
        SampleRequest(network, **{"sampler": FEW, **options}).check(7)


class Overflowing(Toy):
    """NaN for odd labels at small timesteps."""

    @nn.compact
    def __call__(self, x, t, labels=None, keys=None):
        assert labels is not None
        output = super().__call__(x, t, labels, keys)
        return jnp.where(((t < 20) & (labels % 2 == 1))[:, None, None, None], jnp.nan, output)


def test_samples_that_are_not_finite_stop_with_their_number_and_step(tmp_path):
    network = trained(Overflowing(out_channels=6, num_classes=CLASSES), 1)
    timesteps = np.asarray(diffusion.respace(SCHEDULE, "ddim5").timesteps)
    first = timesteps[timesteps < 20].max()
    step = 5 - list(timesteps).index(first)
    message = (
        rf"sample 1 is not finite from step {step} of 5 \(timestep {first}\) on, nor are 1 others of samples 0 to 3"
    )
    with pytest.raises(ValueError, match=message):
        drawn(tmp_path, network, labels="0,1")
    assert not (tmp_path / "p.npz").exists() and not list(tmp_path.rglob("0*.npz"))
    kept = drawn(tmp_path, network, labels="0,2", name="kept.npz")
    assert np.std(kept.image) > 20


def test_inpainting_keeps_the_known_pixels_and_draws_the_others(tmp_path):
    known = sampling.Known(IMAGE, MASK, diffusion.Resampling(2, 2))
    batch = drawn(tmp_path, PLAIN, 5, sampler=Sampler("ddim", "ddim5"), known=known)
    np.testing.assert_array_equal(batch.image[:, :2], np.broadcast_to(IMAGE[:2], (5, 2, SIZE, 3)))
    assert np.ptp(batch.image[:, 2:], axis=0).min() > 0
    assert batch.settings["inpaint"]["jump_length"] == 2
    for other in (None, known._replace(mask=~MASK), known._replace(resampling=diffusion.Resampling(2, 3))):
        with pytest.raises(ValueError, match="samples of other settings(?s:.*)inpaint: "):
            drawn(tmp_path, PLAIN, 5, sampler=Sampler("ddim", "ddim5"), known=other)


def test_the_files_of_inpainting(tmp_path):
    marks, known = np.where(MASK, 255, 0).astype(np.uint8), sampling.Known(IMAGE, MASK)
    pictures.save_png(tmp_path / "image.png", IMAGE)
    pictures.save_png(tmp_path / "mask.png", np.repeat(marks, 3, axis=2))
    read = lambda image, mask: sampling.read_known(
        image and f"{tmp_path}/{image}", mask and f"{tmp_path}/{mask}", known.resampling
    )
    found = read("image.png", "mask.png")
    assert found is not None
    np.testing.assert_array_equal(found.image, IMAGE)
    np.testing.assert_array_equal(found.mask, MASK)
    assert read("", "") is None
    with pytest.raises(ValueError, match="both --inpaint IMAGE and --mask MASK"):
        read("image.png", "")
    for wrong in (IMAGE, np.zeros_like(IMAGE), np.full_like(IMAGE, 255)):
        pictures.save_png(tmp_path / "wrong.png", wrong)
        with pytest.raises(ValueError, match="expected black pixels, which are drawn, and white pixels"):
            read("image.png", "wrong.png")
    pictures.save_png(tmp_path / "small.png", np.repeat(marks[1:], 3, axis=2))
    with pytest.raises(ValueError, match=r"small.png is \[3, 4\] pixels and .*image.png \[4, 4\]"):
        read("image.png", "small.png")
