"""What a GAN is trained on: points of a known mixture, drawn anew at every step, or images."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from experiments import flat_images
from jaxgen import data, training

POINTS = ("gaussian", "ring", "grid")


@dataclasses.dataclass(frozen=True)
class Points:
    """A mixture whose density is known."""

    mixture: data.Mixture

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example."""
        return (self.mixture.means.shape[1],)

    @property
    def num_classes(self) -> int:
        """Of labels: there are none."""
        return 0

    def draw(self, key: jax.Array, num: int) -> np.ndarray:
        """`num` points."""
        return np.asarray(data.draw_mixture(jax.random.split(key, num), self.mixture))

    def batches(self, batch_size: int, steps: int) -> training.DeviceBatches:
        """{"x": [b, D]} for one discriminator step, [b, steps, D] for more: never the same point twice."""
        del batch_size

        def make(key, arrays, step, positions):
            at_step = training.keys.at_step(jax.random.clone(key), step)
            keys = training.keys.per_example(at_step, visits(positions, steps))
            mixture = data.Mixture(arrays["means"], self.mixture.std)
            return by_step({"x": data.draw_mixture(keys, mixture)}, steps)

        return training.DeviceBatches(make, {"means": self.mixture.means})


@dataclasses.dataclass(frozen=True)
class Images:
    """Splits of images; `whole` is `train` with `validation`.

    The players see [H, W, C] in [-1, 1] (`signed`), or [D] in [0, 1].
    """

    train: flat_images.FlatImages
    validation: flat_images.FlatImages
    test: flat_images.FlatImages
    whole: flat_images.FlatImages
    signed: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example, as the players see it."""
        return self.train.shape if self.signed else (self.train.x.shape[1],)

    @property
    def num_classes(self) -> int:
        """Of the labels; 0 without."""
        return 0 if self.train.label is None else int(self.train.label.max()) + 1

    def to_players(self, x):
        """[n, D] in [0, 1] -> what the players see."""
        return (2 * x - 1).reshape(-1, *self.train.shape) if self.signed else x

    def to_unit(self, x) -> np.ndarray:
        """What a generator makes -> [n, D] in [0, 1]."""
        flat = np.asarray(x).reshape(len(x), -1)
        return np.clip((flat + 1) / 2, 0, 1) if self.signed else flat

    def batches(self, batch_size: int, steps: int, distort: float = 0.0) -> training.DeviceBatches:
        """{"x": [b, ...], "label": [b]}, with an axis of `steps` behind b for several discriminator steps."""
        inner = flat_images.batches(self.train, batch_size * steps, distort)

        def make(key, arrays, step, positions):
            batch = inner.make(key, arrays, step, visits(positions, steps))
            return by_step({**batch, "x": self.to_players(batch["x"])}, steps)

        return training.DeviceBatches(make, inner.arrays)


def load(config: flat_images.Data, held_out: int, signed: bool) -> Points | Images:
    """The data of a config; the last `held_out` training images are for validation.

    Raises:
        ValueError: more held out than there are, options that points do not have, or what the readers refuse.
    """
    if config.name in POINTS and (config.distort or config.size or config.dir):
        raise ValueError(f"data.name is {config.name!r}: points have no data.dir, data.size or data.distort")
    match config.name:
        case "gaussian":
            return Points(data.Mixture(jnp.ones((1, 1)), 0.5))
        case "ring":
            return Points(in_unit_variance(data.ring_mixture()))
        case "grid":
            return Points(in_unit_variance(data.grid_mixture()))
    train, test = flat_images.load(config)
    first = len(train.x) - held_out
    if held_out < 1 or first < 1:
        raise ValueError(
            f"evaluation.held_out is {held_out}; of {len(train.x)} training images at least one must be held out and "
            "one left"
        )
    part = lambda chosen: dataclasses.replace(
        train, x=train.x[chosen], label=None if train.label is None else train.label[chosen]
    )
    return Images(part(slice(first)), part(slice(first, None)), test, train, signed)


def in_unit_variance(mixture: data.Mixture) -> data.Mixture:
    """The same mixture, centred at 0 as it is, in the unit in which its coordinates have mean square 1."""
    unit = float(jnp.sqrt(jnp.mean(jnp.square(mixture.means)) + mixture.std**2))
    return data.Mixture(mixture.means / unit, mixture.std / unit)


def visits(positions: jax.Array, steps: int) -> jax.Array:
    """[b] -> [b * steps]: the examples that the steps of the discriminator see, those of one position together."""
    return (positions[:, None] * steps + jnp.arange(steps, dtype=positions.dtype)[None]).reshape(-1)


def by_step(batch: dict[str, jax.Array], steps: int) -> dict[str, jax.Array]:
    """[b * steps, ...] -> [b, steps, ...], or as it is for one step."""
    return batch if steps == 1 else {name: x.reshape(-1, steps, *x.shape[1:]) for name, x in batch.items()}
