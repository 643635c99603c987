"""Samples by number: what they depend on, that devices do not matter, and what does not fit together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trained_toys import (
    CLASSES,
    CLASSIFIER,
    CONDITIONAL,
    FREE,
    PLAIN,
    SCHEDULE,
    SIZE,
    UPSAMPLER,
    ToyClassifier,
    trained,
)

from experiments import image_batches, pack_files, pack_sampling
from experiments.ddpm_evaluation import Sampler
from experiments.pack_sampling import Guide
from jaxgen import diffusion, training

FEW, UNGUIDED = Sampler("ddim", "ddim5"), Guide()
LOW = pack_files.Pack(
    np.random.default_rng(9).integers(0, 256, (9, 2, 2, 3), np.uint8), np.arange(9, dtype=np.int64) % CLASSES, {}, {}
)


def drawn(tmp_path, model, num=7, guide=UNGUIDED, sampler=FEW, devices=1, name="p.npz", batch_size=4, **options):
    pack_sampling.write(
        tmp_path / name, num, model, sampler, guide, devices=jax.devices()[:devices], batch_size=batch_size, **options
    )
    return pack_files.read(tmp_path / name)


def noise_keys(num, seed=0):
    stream = training.keys.stream(training.keys.root(seed), "sample")
    return jax.vmap(jax.random.fold_in, (None, 0))(stream, jnp.arange(num))


def direct(denoise, num, method="ddim", steps="ddim5", seed=0, **options):
    """The same samples from `diffusion.sample`, all at once."""
    x = jax.jit(
        lambda keys: diffusion.sample(
            keys, denoise, (num, SIZE, SIZE, 3), diffusion.respace(SCHEDULE, steps), method=method,
            variance="learned_range", **options,
        )
    )(noise_keys(num, seed))  # fmt: skip
    return image_batches.to_bytes(x)


def assert_close(found, expected):
    """Equal to rounding, which may move a pixel to the next level."""
    apart = np.abs(found.astype(int) - expected.astype(int))
    assert apart.max() <= 1 and np.mean(apart) < 0.02


def apply(model, *labels):
    return lambda x, t: model.network.apply({"params": model.params}, x, t, *labels)


def test_samples_are_those_of_the_sampler_on_any_devices_and_in_any_batch(tmp_path):
    one = drawn(tmp_path, PLAIN, seed=3)
    assert one.label is None and one.image.shape == (7, SIZE, SIZE, 3) and np.std(one.image) > 20
    assert_close(one.image, direct(apply(PLAIN), 7, seed=3))
    two = drawn(tmp_path, PLAIN, seed=3, devices=2, name="two.npz")
    np.testing.assert_array_equal(two.image, one.image)
    other_batch_and_number = drawn(tmp_path, PLAIN, 5, seed=3, name="b.npz", batch_size=3)
    assert_close(other_batch_and_number.image, one.image[:5])


def test_a_class_a_classifier_and_its_scale(tmp_path):
    labels = jnp.asarray([2, 0, 2, 0, 2])
    plain = drawn(tmp_path, CONDITIONAL, 5, labels="2,0")
    np.testing.assert_array_equal(plain.label, labels)
    assert_close(plain.image, direct(apply(CONDITIONAL, labels), 5))
    guidance = diffusion.classifier_guidance(apply(CLASSIFIER), labels, 2.5)
    guided = drawn(tmp_path, CONDITIONAL, 5, Guide(2.5, CLASSIFIER), labels="2,0", name="g.npz")
    assert_close(guided.image, direct(apply(CONDITIONAL, labels), 5, guidance=guidance))
    assert not np.array_equal(guided.image, plain.image)
    # The classifier alone says what the class is.
    pack = drawn(tmp_path, PLAIN, 5, Guide(2.5, CLASSIFIER), labels="2,0", name="u.npz")
    assert_close(pack.image, direct(apply(PLAIN), 5, guidance=guidance))


def test_classifier_free_guidance_and_a_fixed_variance(tmp_path):
    labels = jnp.asarray([0, 1, 2, 0])
    denoise = diffusion.classifier_free_guidance(
        lambda x, t, y: apply(FREE, y)(x, t), labels, CLASSES, 3.0, variance="learned_range"
    )
    pack = drawn(tmp_path, FREE, 4, Guide(3.0), labels="cycle")
    assert_close(pack.image, direct(denoise, 4))
    sampler = Sampler("ancestral", "5", variance="fixed_small")
    fixed = drawn(tmp_path, FREE, 4, sampler=sampler, labels="cycle", name="f.npz")
    half = lambda x, t: apply(FREE, labels)(x, t)[..., :3]
    schedule = diffusion.respace(SCHEDULE, "5")
    expected = diffusion.sample(noise_keys(4), half, (4, SIZE, SIZE, 3), schedule, variance="fixed_small")
    assert_close(fixed.image, image_batches.to_bytes(expected))


def test_an_upsampler_enlarges_the_image_of_the_same_number(tmp_path):
    low = image_batches.signed(LOW.image[:7])
    denoise = lambda x, t: apply(UPSAMPLER, jnp.asarray(LOW.label[:7], jnp.int32))(
        diffusion.with_low_resolution(x, jnp.asarray(low)), t
    )
    pack = drawn(tmp_path, UPSAMPLER, low=LOW)
    np.testing.assert_array_equal(pack.label, LOW.label[:7])
    assert_close(pack.image, direct(denoise, 7))


def test_labels_depend_on_their_numbers_alone():
    key, numbers = training.keys.root(1), np.arange(600)
    found = pack_sampling.labels_of(key, numbers, "random", CLASSES)
    np.testing.assert_array_equal(pack_sampling.labels_of(key, numbers[50:60], "random", CLASSES), found[50:60])
    # Each class 200 times, give or take 4 standard deviations of sqrt(600 / 3 x 2 / 3).
    assert np.all(np.abs(np.bincount(found, minlength=CLASSES) - 200) < 4 * 11.6)
    np.testing.assert_array_equal(pack_sampling.labels_of(key, np.array([2, 3, 4]), "cycle", CLASSES), [2, 0, 1])


def test_pixels_are_the_nearest_or_truncated():
    x = (np.array([-2, 0, 0.6, 254.9, 255, 400]) / 127.5 - 1).astype(np.float32)
    np.testing.assert_array_equal(pack_sampling.in_bytes(x, "nearest"), [0, 0, 1, 255, 255, 255])
    np.testing.assert_array_equal(pack_sampling.in_bytes(x, "truncated"), [0, 0, 0, 254, 255, 255])


def test_another_network_seed_or_guidance_is_another_pack(tmp_path):
    drawn(tmp_path, CONDITIONAL, 4, labels="1")
    other = CONDITIONAL._replace(params=jax.tree.map(lambda x: 2 * x, CONDITIONAL.params))
    for model, options, name in (
        (other, {}, "network"),
        (CONDITIONAL, {"seed": 1}, "seed"),
        (CONDITIONAL, {"guide": Guide(2.0, CLASSIFIER)}, "classifier"),
        (CONDITIONAL, {"pixels": "truncated"}, "pixels"),
    ):
        with pytest.raises(ValueError, match=f"samples of other settings(?s:.*)\n  {name}: "):
            drawn(tmp_path, model, 4, **{"labels": "1", **options})


COSINE = CLASSIFIER._replace(schedule=diffusion.make_schedule(diffusion.cosine_betas(40)))
FIVE = trained(ToyClassifier(out_channels=5), 5)


@pytest.mark.parametrize(
    "model, guide, labels, low, message",
    [
        (CLASSIFIER, Guide(), "", None, "is a classifier, which draws nothing"),
        (PLAIN, Guide(2.0), "", None, "guidance of scale 2 with toy 0, a network without classes: it needs a"),
        (CONDITIONAL, Guide(2.0), "", None, "never trained without labels"),
        (CONDITIONAL, Guide(1.0, PLAIN), "", None, "--classifier is toy 0, which draws images"),
        (CONDITIONAL, Guide(1.0, COSINE), "", None, "for another noise schedule: toy 4: T = 40, beta .* toy 1: T = 40"),
        (CONDITIONAL, Guide(1.0, FIVE), "", None, "toy 5 knows 5 classes, toy 1 3"),
        (CONDITIONAL, Guide(1.0, CLASSIFIER._replace(size=8)), "", None, "classifies images of 8 pixels"),
        (CONDITIONAL, Guide(interval=(0, 5)), "", None, "--interval belongs to classifier-free"),
        (PLAIN, Guide(), "1", None, "labels '1' for toy 0, a network without classes"),
        (CONDITIONAL, Guide(), "1,3", None, r"labels \[3\] are none of the classes, which are 0 to 2"),
        (FREE, Guide(), "3", None, r"labels \[3\] are none of the classes, which are 0 to 2"),
        (CONDITIONAL, Guide(), "dog", None, "labels are 'dog'; expected 'random', 'cycle' or"),
        (UPSAMPLER, Guide(), "", None, "enlarges images of 2 pixels: give a pack"),
        (PLAIN, Guide(), "", LOW, "--low-resolution is for networks that enlarge"),
        (UPSAMPLER, Guide(), "", LOW._replace(image=LOW.image[:3]), r"holds 3 images \[2, 2, 3\]; expected 7 or more"),
        (UPSAMPLER, Guide(), "", LOW._replace(label=LOW.label + 3), "has label 5; there are 3 classes"),
    ],
)
def test_what_does_not_fit_together_is_named(model, guide, labels, low, message):
    with pytest.raises(ValueError, match=message):
        pack_sampling.check(model, guide, labels, low, 7)
