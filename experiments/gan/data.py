"""The data of a GAN: points of a known mixture, drawn anew at every step, or images."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from experiments.command import image_data
from jaxgen import data

MIXTURES = {
    "gaussian": lambda: data.Mixture(jnp.ones((1, 1)), 0.5),
    "ring": lambda: data.scale_to_unit_variance(data.ring_mixture()),
    "grid": lambda: data.scale_to_unit_variance(data.grid_mixture()),
}


@dataclasses.dataclass(frozen=True)
class Points:
    """A mixture whose density is known; it has no labels."""

    mixture: data.Mixture
    num_classes = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example."""
        return (self.mixture.means.shape[1],)

    def example(self) -> dict[str, np.ndarray]:
        """Of the shape of a batch of one."""
        return {"x": np.zeros((1, *self.shape), np.float32)}

    def draw(self, key: jax.Array, num: int) -> np.ndarray:
        """`num` points, [num, D]."""
        return np.asarray(data.draw_mixture(jax.random.split(key, num), self.mixture))

    def batches(self, batch_size: int, steps: int) -> data.DeviceBatches:
        """{"x": [b, D]} for one discriminator step, [b, steps, D] for several: never the same point twice."""
        del batch_size
        return data.group_examples(data.mixture_batches(self.mixture), steps)


@dataclasses.dataclass(frozen=True)
class Images:
    """Splits of images; `whole` is `train` with `validation`.

    The players take [H, W, C] in [-1, 1] (`signed`), or [D] in [0, 1]. `distort` is that of `data.image_batches`.
    """

    train: data.Images
    validation: data.Images
    test: data.Images
    whole: data.Images
    signed: bool
    distort: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example, as the players take it."""
        return self.train.shape if self.signed else (self.train.flat.shape[1],)

    @property
    def num_classes(self) -> int:
        """Of the labels; 0 without."""
        return 0 if self.train.label is None else int(self.train.label.max()) + 1

    @property
    def has_features(self) -> bool:
        """Whether there are labels for a classifier, and images enough to compare its features."""
        labels = self.whole.label
        return labels is not None and min(len(self.whole), len(self.test)) > 3 and len(np.unique(labels)) > 1

    def example(self) -> dict[str, np.ndarray]:
        """Of the shape of a batch of one."""
        return {"x": np.zeros((1, *self.shape), np.float32), "label": np.zeros(1, np.int32)}

    def to_players(self, x):
        """[n, D] in [0, 1] -> what the players take."""
        return (2 * x - 1).reshape(-1, *self.train.shape) if self.signed else x

    def to_unit(self, x) -> np.ndarray:
        """The generator's output -> [n, D] in [0, 1]."""
        flat = np.asarray(x).reshape(len(x), -1)
        return np.clip((flat + 1) / 2, 0, 1) if self.signed else flat

    def batches(self, batch_size: int, steps: int) -> data.DeviceBatches:
        """{"x": [b, ...], "label": [b]}, for several discriminator steps [b, steps, ...]."""
        flat = data.image_batches(self.train, batch_size * steps, flat=True, distort=self.distort)
        assert isinstance(flat, data.DeviceBatches)

        def make(key, arrays, step, positions):
            batch = flat.make(key, arrays, step, positions)
            return {**batch, "x": self.to_players(batch["x"])}

        return data.group_examples(dataclasses.replace(flat, make=make), steps)


def load(config: image_data.FlatImageData, held_out: int, signed: bool, labelled: bool = False) -> Points | Images:
    """The data of a config; the last `held_out` training images are for validation, or a sixth where that is over half.

    Raises:
        ValueError: no image is held out or none is left, no labels where `labelled`, or what the readers refuse.
    """
    if config.name in MIXTURES:
        return Points(MIXTURES[config.name]())
    train, test = image_data.load(config, labelled)
    chosen = held_out if held_out <= len(train) / 2 else max(len(train) // 6, 1)
    if held_out < 1 or len(train) < 2:
        raise ValueError(
            f"evaluation.held_out is {held_out}; of {len(train)} training images at least one must be held out and "
            "one left"
        )
    first = len(train) - chosen
    return Images(train.select(slice(first)), train.select(slice(first, None)), test, train, signed, config.distort)
