"""One game: its players, its data, and the draws that measures and pictures are made of."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import gan_data
from jaxgen import gan, training


@dataclasses.dataclass(frozen=True)
class Game:
    """A training and everything that looks at it.

    Attributes:
        config: of the experiment.
        data: what the generator should make.
        run: the open run directory.
        name: of the stage, empty where there is one.
        key: its root key.
        players: generator and discriminator.
        losses: of the two.
    """

    config: Any
    data: gan_data.Points | gan_data.Images
    run: training.Run
    name: str
    key: jax.Array
    players: gan.Players
    losses: gan.Losses

    @property
    def prefix(self) -> str:
        """Of the names of files and measurements."""
        return f"{self.name}-" if self.name else ""

    def draw_key(self, number: int) -> jax.Array:
        """A key for one measurement or picture; no two share a number."""
        return jax.random.fold_in(training.keys.stream(self.key, "eval"), number)

    def generator(self, state: training.TrainState) -> Any:
        """The parameters to evaluate: the moving average, if there is one."""
        return state.ema["generator"] if self.config.objective.ema else state.params["generator"]

    def discriminator(self, state: training.TrainState) -> Any:
        """The discriminator's parameters, as it uses them."""
        params = state.params["discriminator"]
        if self.config.objective.spectral:
            return gan.spectrally_normalized(params, state.model_state["spectral"])
        return params

    def labels(self, num: int) -> np.ndarray | None:
        """For generated examples the classes take turns; None without a condition."""
        return np.arange(num, dtype=np.int32) % self.data.num_classes if self.players.condition else None

    def fake(self, generator: Any, number: int, num: int) -> np.ndarray:
        """G(z) for `num` draws, with `labels`: [num, ...]."""
        return gan.sample(self.draw_key(number), self.players, generator, num, self.labels(num))

    def real(self, number: int, num: int, split: str = "test") -> tuple[np.ndarray, np.ndarray | None]:
        """`num` points, or the first images of a split (all where there are fewer); their labels with a condition."""
        if isinstance(self.data, gan_data.Points):
            return self.data.draw(self.draw_key(number), num), None
        images = getattr(self.data, split)
        labels = images.labels[:num] if self.players.condition else None
        return self.data.to_players(images.unit(0, num)), labels

    def logits(self, discriminator: Any, x: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        """D's answers, without dropout: [N, ...], labels [N] -> [N]."""
        parts = []
        for start in range(0, len(x), 1000):
            part = slice(start, start + 1000)
            chosen = None if labels is None else jnp.asarray(labels[part])
            parts.append(np.asarray(_logits(self.players, discriminator, jnp.asarray(x[part]), chosen)))
        return np.concatenate(parts)


@functools.partial(jax.jit, static_argnums=0)
def _logits(players, params, x, labels):
    return players.discriminate(params, None, x, labels)
