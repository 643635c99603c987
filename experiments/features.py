"""Features of images from a small classifier of the data itself, and the measures of samples made on them.

The published FID takes features from one network with fixed weights (Inception, trained on ImageNet). Without those
weights, a classifier is trained here with a fixed seed on the labelled training split, once, and kept in a file with
the sha256 of its parameters. Its penultimate layer gives the features. The distances are then called classifier-FID:
they compare models of the same data, not with published numbers.

Whatever gives features is an `Extractor`. That of `experiments.inception`, from a file of the Inception weights, is
named "fid", and so are then the distances.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments import array_files, image_batches, optimizers
from jaxgen import metrics, training
from jaxgen.nn import Conv
from jaxgen.training.checkpoints import flatten, unflatten

SEED = 20_141_210


@dataclasses.dataclass(frozen=True)
class Settings:
    """How the classifier is made. The same for all data, so that its numbers compare between models."""

    channels: int = 16
    """of the first convolution; the other two have twice and four times as many"""
    num_features: int = 64
    """F, width of the penultimate layer"""
    steps: int = 2000
    """updates"""
    batch_size: int = 128
    """images an update"""
    learning_rate: float = 3e-3
    """at the start; it falls to zero as a cosine"""


class Classifier(nn.Module):
    """Three convolutions, the last two of stride 2, and two dense layers: [B, H, W, C] in [-1, 1] -> logits [B, K].

    Attributes:
        num_classes: K.
        num_features: F.
        channels: of the first convolution.
    """

    num_classes: int
    num_features: int = 64
    channels: int = 16

    def setup(self) -> None:
        """Declares the layers."""
        he = nn.initializers.he_normal()
        self.convolutions = [
            Conv(self.channels * 2**i, stride=1 if i == 0 else 2, kernel_init=he, name=f"conv_{i}") for i in range(3)
        ]
        self.penultimate = nn.Dense(self.num_features, kernel_init=he)
        self.last = nn.Dense(self.num_classes)

    def features(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, F], at least 0."""
        for convolution in self.convolutions:
            x = nn.relu(convolution(x))
        return nn.relu(self.penultimate(x.reshape(x.shape[0], -1)))

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, K]."""
        return self.last(self.features(x))

    def both(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[B, H, W, C] -> features [B, F], logits [B, K]."""
        features = self.features(x)
        return features, self.last(features)


@dataclasses.dataclass(frozen=True)
class Extractor:
    """What turns images into features.

    Attributes:
        name: what the Frechet distance on these features is called: "classifier_fid", or "fid" for Inception's.
        extract: [B, H, W, C] float32 in [-1, 1] -> (features [B, F], class probabilities [B, K]).
        sha256: of what the features depend on.
        accuracy: share of test images classified right, or None.
        spatial: the same and features that know places, [B, S], of which sFID is the distance; None where there are
            none.
    """

    name: str
    extract: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
    sha256: str
    accuracy: float | None = None
    spatial: Callable[[jax.Array], tuple[jax.Array, jax.Array, jax.Array]] | None = None

    def __call__(self, images: np.ndarray, batch_size: int = 500) -> tuple[np.ndarray, np.ndarray]:
        """Features [N, F] and class probabilities [N, K] of images [N, H, W, C], uint8 or floating point in [0, 1].

        Generated images should be rounded to bytes first, as the real ones are.

        Raises:
            ValueError: no images, or values outside [0, 1].
        """
        found = list(in_batches(self.extract, np.asarray(images), batch_size))
        features, probabilities = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return features, probabilities


def in_batches(extract: Callable[[jax.Array], tuple[jax.Array, ...]], images: Any, batch_size: int = 500):
    """Yields what `extract` finds in a batch after the other of images [N, H, W, C], in memory or on disk, as arrays.

    Raises:
        ValueError: as an `Extractor`.
    """
    if len(images.shape) != 4 or not len(images):
        raise ValueError(f"images have shape {images.shape}; expected [N, H, W, C]")
    for part in image_batches.slices(len(images), batch_size):
        x = images[part]
        if x.dtype == np.uint8:
            x = image_batches.signed(x)
        elif x.min() >= 0 and x.max() <= 1:
            x = 2 * x.astype(np.float32) - 1
        else:
            raise ValueError(f"images lie in [{x.min():g}, {x.max():g}]; expected uint8, or [0, 1]")
        # The last batch is filled up, so that there is one shape to compile.
        filled = np.concatenate([x, np.zeros((batch_size - len(x), *x.shape[1:]), np.float32)])
        yield [np.asarray(a)[: len(x)] for a in extract(jnp.asarray(filled))]


def cached(
    path: str | Path, train: image_batches.Images, test: image_batches.Images, settings: Settings = Settings()
) -> Extractor:
    """The classifier of this data: read from `path` where that file is there, otherwise trained and written to it.

    Raises:
        ValueError: the data has no labels; or the file is damaged, or is of other data or settings.
    """
    path = Path(path).expanduser()
    if train.label is None or test.label is None:
        raise ValueError("the data has no labels to train a classifier on, so there are no features to compare by")
    network = Classifier(int(train.label.max()) + 1, settings.num_features, settings.channels)
    made_of = {
        "settings": dataclasses.asdict(settings), "train": train.fingerprint, "test": test.fingerprint, "seed": SEED,
    }  # fmt: skip
    if path.exists():
        params, accuracy = _read(path, network, train.shape, made_of)
    else:
        params = fit(network, train, settings)
        accuracy = _accuracy(network, params, test)
        about = {**made_of, "accuracy": accuracy, "sha256": training.tree_digest(params)}
        array_files.write(path, {"about": np.array(json.dumps(about)), **flatten(params)})
    return _extractor(network, params, accuracy)


def read(path: str | Path) -> Extractor:
    """The classifier that `cached` wrote, whatever data it is of.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or no such file.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"no file {path}; expected the features.npz of a run, or of `sample_pack make-reference`"
        )
    arrays = array_files.read(path)
    about = json.loads(str(arrays.pop("about", "{}")))
    if "settings" not in about or "last/bias" not in arrays:
        raise ValueError(f"{path} holds no feature classifier; expected the features.npz of a run")
    settings = Settings(**about["settings"])
    network = Classifier(len(arrays["last/bias"]), settings.num_features, settings.channels)
    params: dict[str, Any] = {}
    for name, array in arrays.items():
        layer, _, part = name.partition("/")
        params.setdefault(layer, {})[part] = array
    if training.tree_digest(params) != about["sha256"]:
        raise ValueError(f"the parameters in {path} are not those that were saved")
    return _extractor(network, params, about["accuracy"])


def fit(network: Classifier, train: image_batches.Images, settings: Settings) -> Any:
    """The parameters after training with the fixed seed, on one device."""
    key = training.keys.root(SEED)
    x = jax.ShapeDtypeStruct((1, *train.shape), jnp.float32)
    params = network.lazy_init(training.keys.stream(key, "params"), x)["params"]

    def loss(params, batch, keys, context):
        logits: Any = network.apply({"params": params}, batch["x"])
        log_p = nn.log_softmax(logits)
        losses = -jnp.take_along_axis(log_p, batch["label"][:, None], axis=1)[:, 0]
        return losses, {}

    optimizer = optimizers.build(optimizers.Optimizer("adam", settings.learning_rate, "cosine"), settings.steps)
    parallel = training.ParallelUpdate(
        training.update_from_objective(loss, optimizer),
        image_batches.batches(train, settings.batch_size),
        batch_size=settings.batch_size,
        devices=jax.local_devices()[:1],
    )
    state = training.create_state(params, optimizer)
    tally = parallel.empty_tally(state, key)
    state, done = parallel.replicate(state), 0
    while done < settings.steps:
        num = min(100, settings.steps - done)
        state, tally = parallel(state, tally, key, None, num)
        # Short calls, so that Ctrl-C is answered.
        jax.block_until_ready(tally.count)
        done += num
    return jax.device_get(state.params)


def compare(reference: np.ndarray, features: np.ndarray, name: str = "classifier_fid", suffix: str = "") -> dict:
    """{name: Frechet distance, "precision", "recall"} of samples' features [N, F] beside real ones [M, F].

    The distance takes all of both; precision and recall take as many real features as there are samples, because they
    compare only between equal counts.
    """
    quality = metrics.precision_recall(reference[: len(features)], features[: len(reference)])
    measured = {
        name: metrics.frechet_distance(features, reference),
        "precision": quality.precision,
        "recall": quality.recall,
    }
    return {f"{key}{suffix}": value for key, value in measured.items()}


def measure(extractor: Extractor, samples: np.ndarray, reference, held_out) -> dict[str, float]:
    """Everything said of N samples uint8 [N, H, W, C], and the floor: the same said of N real images.

    Args:
        extractor: gives the features.
        samples: generated images.
        reference: the `Images` they are compared with, all of them.
        held_out: `Images` of another split; the first N are the floor's, all where there are fewer.
    """
    real, _ = extractor(reference.image)
    features, probabilities = extractor(samples)
    floor, _ = extractor(held_out.first(len(samples)).image)
    measured = compare(real, features, extractor.name)
    measured |= compare(real, floor, extractor.name, "_floor")
    measured["inception_score" if extractor.name == "fid" else "classifier_score"] = score(probabilities)
    measured |= {"fid_samples": len(samples), "floor_images": len(floor), "reference_images": len(real)}
    if extractor.accuracy is not None:
        measured["classifier_accuracy_percent"] = 100 * extractor.accuracy
    return measured


def score(probabilities: np.ndarray) -> float:
    """exp of the mean KL(p(y | x) || p(y)) of class probabilities [N, K]: from 1 to K (Inception score's formula)."""
    p = np.asarray(probabilities, np.float64)
    logs = np.log(np.maximum(p, 1e-30)) - np.log(np.maximum(p.mean(axis=0), 1e-30))[None]
    return float(np.exp(np.mean(np.sum(p * logs, axis=1))))


def _extractor(network: Classifier, params, accuracy: float) -> Extractor:
    on_device = jax.tree.map(jnp.asarray, params)

    def both(params, x):
        features, logits = cast(Any, network.apply({"params": params}, x, method="both"))
        return features, nn.softmax(logits)

    compiled = jax.jit(both)
    return Extractor("classifier_fid", lambda x: compiled(on_device, x), training.tree_digest(params), accuracy)


def _accuracy(network: Classifier, params, test: image_batches.Images) -> float:
    _, probabilities = _extractor(network, params, 0.0)(test.image)
    return float(np.mean(probabilities.argmax(axis=1) == test.label))


def _read(path: Path, network: Classifier, shape: tuple[int, int, int], made_of: dict) -> tuple[Any, float]:
    arrays = array_files.read(path)
    about = json.loads(str(arrays.pop("about", "{}")))
    other = [name for name, value in made_of.items() if about.get(name) != value]
    if other:
        raise ValueError(
            f"{path} holds the classifier of another {', '.join(other)}; give another file, or remove it to train anew"
        )
    target = jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros((1, *shape))))["params"]
    params = unflatten(arrays, target, path)
    if training.tree_digest(params) != about["sha256"]:
        raise ValueError(f"the parameters in {path} are not those that were saved; remove it to train anew")
    return params, about["accuracy"]
