"""Guided samples of `guided_diffusion`, and classifiers and data from elsewhere."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import guided_diffusion
from experiments.command import image_data
from experiments.ddpm.evaluate import EvalContext
from experiments.guided_diffusion import classifier as noisy_classifier
from experiments.guided_diffusion.config import DiffusionConfig, Guidance, build_classifier
from experiments.guided_diffusion.evaluate import GuidedEvaluation
from experiments.guided_diffusion.train import batches
from jaxgen import data, diffusion, training
from jaxgen.compiler import compile_per_shape
from tests.experiments import one_program
from tests.experiments.guided_diffusion.toys import SHAPE, TINY, changed, make_networks_small, write_images


@pytest.fixture
def guided(tmp_path, monkeypatch):
    """Untrained networks, ready to be drawn from; `made(guidance)`."""
    make_networks_small(monkeypatch)
    one_program.networks(monkeypatch)
    prepared = guided_diffusion.validate_and_load(TINY)
    model = prepared.model
    params = model.init(jax.random.key(0))
    classifier = build_classifier(TINY.classifier.network, TINY.process, 10, SHAPE)
    trained = diffusion.Pretrained("classifier", classifier, classifier.init(jax.random.key(1)))

    def made(guidance, step=0):
        context = EvalContext(TINY.evaluation, model, params, jax.random.key(5), opened, step, prepared.images)
        return GuidedEvaluation(context, changed(guidance=guidance), trained)

    with training.Run(tmp_path, TINY, experiment="guided_diffusion", quiet=True) as opened:
        yield made, model, params


def test_guidance_of_the_model_alone_and_beyond_and_inside_its_interval(guided):
    made, model, params = guided
    whole = made(Guidance(("classifier", "classifier_free", "classifier_alone"), (0.0, 1.0, 3.0)))
    variant = {v.name: v for v in whole.variants}
    alone = whole.samples(variant["unguided"], 5)
    # Scales at which there is nothing to be seen of guidance, drawn through it all the same.
    for name, scale in (("classifier_1", 0.0), ("classifier_free_3", 1.0)):
        found = whole.samples(dataclasses.replace(variant[name], scale=scale), 5)
        assert np.abs(found.astype(int) - alone).max() <= 1
    # Without labels, and so all that it is guided from at scale 0: the model that is told the null label.
    nothing = {"labels": np.full(5, 10, np.int32)}
    keys = jax.jit(lambda key: jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(5)))(
        training.keys.stream(jax.random.key(5), "sample")
    )  # fmt: skip
    draw = compile_per_shape(diffusion.make_sampler(model, diffusion.SamplingVariant(TINY.evaluation.sampler)))
    without = data.to_bytes(draw({"denoiser": params}, keys, nothing))
    for name in ("without_labels", "classifier_free_3", "classifier_alone_3"):
        found = whole.samples(dataclasses.replace(variant[name], scale=0.0), 5)
        assert np.abs(found.astype(int) - without).max() <= 1
    for name in ("classifier_3", "classifier_free_3", "classifier_alone_3", "without_labels"):
        assert np.abs(whole.samples(variant[name], 5).astype(int) - alone).max() > 1
    # Of the steps 0, 10, 20, 30 none is in (0.3, 0.45) of 0 to 39, and all are in (0, 0.8).
    for interval, close in (((0.3, 0.45), True), ((0.0, 0.8), False)):
        some = made(Guidance(("classifier",), (3.0,), interval))
        for name in ("classifier_3", "classifier_free_3"):
            expected = alone if close else whole.samples(variant[name], 5)
            inside = dataclasses.replace(variant[name], interval=some.variants[0].interval)
            # Drawn anew, although the variant that is guided everywhere is kept in a file.
            assert np.abs(whole.samples(inside, 5).astype(int) - expected).max() <= 1
    # The bound is of the images' own classes, samples are of the classes in turn.
    label = whole.context.images[1].labels[[7, 3]]
    np.testing.assert_array_equal(whole.cond_of_test_images(np.array([7, 3]))["labels"], label)
    np.testing.assert_array_equal(whole.cond(np.arange(8, 13))["labels"], [8, 9, 0, 1, 2])


def test_released_classifiers_are_of_one_schedule_size_and_set_of_classes(tmp_path, monkeypatch):
    file = tmp_path / "64x64_classifier.pt"
    file.write_bytes(b"")
    released = diffusion.released()["64x64_classifier.pt"].model
    read = lambda path: diffusion.Pretrained(path.removesuffix(".pt").rpartition("/")[2], released, {})
    monkeypatch.setattr(diffusion, "load_pretrained", read)

    def find(schedule, classes, shape):
        process = DiffusionConfig(schedule)
        model = diffusion.DiffusionModel(None, process.make_schedule(), shape=shape)
        return noisy_classifier.find(str(file), model, classes)

    assert find("cosine", 1000, (64, 64, 3)).model == released
    with pytest.raises(ValueError, match="another noise schedule: 64x64_classifier: T = 1000, beta .*; this run: T = "):
        find("linear", 1000, (64, 64, 3))
    with pytest.raises(ValueError, match="64x64_classifier knows 1000 classes, this run 10; labels would mean"):
        find("cosine", 10, (64, 64, 3))
    with pytest.raises(ValueError, match="images of 64 x 64 x 3, this run draws 8 x 8 x 1"):
        find("cosine", 10, SHAPE)
    monkeypatch.undo()
    np.savez(tmp_path / "x.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match=r"no published network does(?s:.*)  64x64_classifier: 65,438,568"):
        noisy_classifier.find(str(tmp_path / "x.npz"), released, 1000)


def test_labels_come_with_images_from_disk_and_are_held_to_the_classes(tmp_path):
    write_images(tmp_path / "classes", 20, lambda i: str(i % 3))
    folder = str(tmp_path / "classes")
    images, _ = image_data.load(image_data.ImageData("images", folder, on_disk=True))
    order = training.keys.stream(training.keys.root(0), "order")
    flipped = batches(images, 6, image_data.ImageData(flip=True), 3)
    made = flipped.make(jax.random.clone(order), 0, np.arange(6, dtype=np.int32))  # type: ignore
    values = np.rint((made["x"][:, 0, 0, 0] + 1) * 127.5 / 10).astype(int)
    np.testing.assert_array_equal(values % 3, made["label"])
    with pytest.raises(ValueError, match="outside the 2 classes 0 to 1"):
        batches(images, 18, image_data.ImageData(), 2).make(order, 0, np.arange(18, dtype=np.int32))  # type: ignore
    config = changed(data=image_data.ImageData("images", folder, on_disk=True), labels__classes=0)
    assert guided_diffusion.validate_and_load(config).classes == 3
    with pytest.raises(ValueError, match="labels.classes is 2, and there are 3 class folders|outside the 2 classes"):
        guided_diffusion.validate_and_load(changed(data=config.data, labels__classes=2))
    write_images(tmp_path / "flat", 20, lambda i: "")
    config = changed(data=image_data.ImageData("images", str(tmp_path / "flat"), on_disk=True), labels__classes=3)
    with pytest.raises(ValueError, match="the images have no labels"):
        guided_diffusion.validate_and_load(config)
