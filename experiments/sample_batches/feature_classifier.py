"""Trains the classifier whose features compare samples, once for each data set, and keeps it in a file.

The published FID takes features from one network with fixed weights (Inception, trained on ImageNet). Without those
weights, a classifier is trained here with a fixed seed on the labelled training split, once, and kept in a file with
the sha256 of its parameters. The distances are then called classifier-FID.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgen import data, metrics, training
from jaxgen.weights import flatten, read_arrays, write_arrays

SEED = 20_141_210


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of the classifier and its training, the same for all data, so that numbers compare between models."""

    channels: int = 16
    """channels of the first convolution; the second has twice, the third four times as many"""
    num_features: int = 64
    """F, width of the penultimate layer"""
    steps: int = 2000
    """number of updates"""
    batch_size: int = 128
    """images an update"""
    learning_rate: float = 3e-3
    """initial learning rate; it falls to zero as a cosine"""


def cached(
    path: str | Path, train: data.Images, test: data.Images, settings: Settings = Settings()
) -> metrics.Extractor:
    """The classifier of this data: read from `path` where that file is there, otherwise trained and written to it.

    Raises:
        ValueError: the data has no labels; or the file is damaged, or is of other data or settings.
    """
    path = Path(path).expanduser()
    if train.label is None or test.label is None:
        raise ValueError("the data has no labels to train a classifier on, so there are no features to compare by")
    made_of = _made_of(train, test, settings)
    if path.exists():
        check(path, train, test, settings)
        network, params, about = _load(path)
    else:
        network = metrics.FeatureClassifier(int(train.label.max()) + 1, settings.num_features, settings.channels)
        params = fit(network, train, settings)
        about = {**made_of, "accuracy": _accuracy(network, params, test), "sha256": training.tree_digest(params)}
        write_arrays(path, {"about": np.array(json.dumps(about)), **flatten(params)})
    return metrics.classifier_extractor(network, params, about["accuracy"])


def check(
    path: str | Path, train: data.Images | None, test: data.Images | None, settings: Settings = Settings()
) -> None:
    """Raises ValueError where `path` is there, and is the classifier of other data; None: a split that may be any."""
    path = Path(path).expanduser()
    if not path.exists():
        return
    about, made_of = _load(path)[2], _made_of(train, test, settings)
    if other := [name for name, value in made_of.items() if value is not None and about.get(name) != value]:
        raise ValueError(
            f"{path} holds the classifier of another {', '.join(other)}; give another file, or remove it to train anew"
        )


def _made_of(train: data.Images | None, test: data.Images | None, settings: Settings) -> dict[str, Any]:
    """What a classifier depends on; None of a split that is not known."""
    prints = {"train": train and train.fingerprint, "test": test and test.fingerprint}
    return {"settings": dataclasses.asdict(settings), **prints, "seed": SEED}


def read(path: str | Path) -> metrics.Extractor:
    """The classifier that `cached` wrote, of any data.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or no such file.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"no file {path}; expected the features.npz of a run, or of `sample_batches make-reference`"
        )
    network, params, about = _load(path)
    return metrics.classifier_extractor(network, params, about["accuracy"])


def _load(path: Path) -> tuple[metrics.FeatureClassifier, Any, dict[str, Any]]:
    """Network, parameters, and what they were made of."""
    arrays = read_arrays(path)
    about = json.loads(str(arrays.pop("about", "{}")))
    if "settings" not in about or "last/bias" not in arrays:
        raise ValueError(f"{path} holds no feature classifier; expected the features.npz of a run")
    settings = Settings(**about["settings"])
    params: dict[str, Any] = {}
    for name, array in arrays.items():
        layer, _, part = name.partition("/")
        params.setdefault(layer, {})[part] = array
    if training.tree_digest(params) != about["sha256"]:
        raise ValueError(f"the parameters in {path} are not those that were saved; remove it to train anew")
    return metrics.FeatureClassifier(len(arrays["last/bias"]), settings.num_features, settings.channels), params, about


def fit(network: metrics.FeatureClassifier, train: data.Images, settings: Settings) -> Any:
    """The parameters after training with the fixed seed, on one device."""
    key = training.keys.root(SEED)
    x = jax.ShapeDtypeStruct((1, *train.shape), jnp.float32)
    params = network.lazy_init(training.keys.stream(key, "params"), x)["params"]

    def loss(params, batch, keys, context):
        logits: Any = network.apply({"params": params}, batch["x"])
        log_p = nn.log_softmax(logits)
        losses = -jnp.take_along_axis(log_p, batch["label"][:, None], axis=1)[:, 0]
        return losses, {}

    optimizer = training.build_optimizer(training.Optimizer("adam", settings.learning_rate, "cosine"), settings.steps)
    state = training.train_state(
        training.update_from_objective(loss, optimizer),
        training.create_state(params, optimizer),
        data.image_batches(train, settings.batch_size),
        settings.steps,
        seed=SEED,
        log_every=0,
        devices=jax.local_devices()[:1],
    )
    return jax.device_get(state.params)


def _accuracy(network: metrics.FeatureClassifier, params, test: data.Images) -> float:
    _, probabilities = metrics.classifier_extractor(network, params, 0.0)(test.image)
    return float(np.mean(probabilities.argmax(axis=1) == test.label))
