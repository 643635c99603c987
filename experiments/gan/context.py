"""One training with its data and players, and the samples and logits that measures and figures are made of."""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.gan.config import Config
from experiments.gan.data import Images, Points
from jaxgen import gan, training


class Trained(NamedTuple):
    """Parameters at the end of a training.

    Attributes:
        generator: the one to evaluate: a moving average, perhaps of an earlier step.
        last: the generator without averaging at the last step, which the discriminator was trained against.
        discriminator: of the last step, as it is applied (spectrally normalised).
    """

    generator: Any
    last: Any
    discriminator: Any


@dataclasses.dataclass(frozen=True)
class EvalContext:
    """A training, and what is evaluated in it.

    Attributes:
        config: of the experiment.
        data: the real examples.
        run: the open run directory.
        stage: name of the training within the run, empty if it is the only one.
        key: its root key.
        players: generator and discriminator.
        losses: of the two.
    """

    config: Config
    data: Points | Images
    run: training.Run
    stage: str
    key: jax.Array
    players: gan.Players
    losses: gan.Losses

    @property
    def prefix(self) -> str:
        """Of the names of files and measurements."""
        return f"{self.stage}-" if self.stage else ""

    def draw_key(self, number: int) -> jax.Array:
        """A key for one measurement or figure; no two share a number."""
        return jax.random.fold_in(training.keys.stream(self.key, "eval"), number)

    def generator(self, state: training.TrainState) -> Any:
        """The parameters to evaluate: the moving average, if there is one."""
        return state.ema["generator"] if self.config.objective.ema else state.params["generator"]

    def discriminator(self, state: training.TrainState) -> Any:
        """The discriminator's parameters as they are applied."""
        vectors = state.model_state["spectral"] if self.config.objective.spectral else None
        return gan.spectrally_normalized(state.params["discriminator"], vectors)

    def labels(self, num: int) -> np.ndarray | None:
        """Labels of generated examples, int32 [num]: 0, 1, ..., 0, 1, ...; None without a condition."""
        return np.arange(num, dtype=np.int32) % self.data.num_classes if self.players.condition else None

    def fake(self, generator: Any, number: int, num: int) -> np.ndarray:
        """G(z) for `num` draws with `labels` and the key of this number: [num, ...]."""
        return gan.sample(self.draw_key(number), self.players, generator, num, self.labels(num))

    def real(self, number: int, num: int, split: str = "test") -> tuple[np.ndarray, np.ndarray | None]:
        """`num` points, or the first images of a split (all if there are fewer); their labels with a condition."""
        if isinstance(self.data, Points):
            return self.data.draw(self.draw_key(number), num), None
        images = getattr(self.data, split)
        labels = images.labels[:num] if self.players.condition else None
        return self.data.to_players(images.unit(0, num)), labels

    def logits(self, discriminator: Any, x: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
        """D's logits, without dropout: [N, ...], labels [N] -> [N]."""
        return gan.discriminator_logits(self.players, discriminator, x, labels)

    def diagnose(self, generator: Any, discriminator: Any, numbers: tuple[int, int], num: int) -> dict[str, float]:
        """`gan.diagnose` on `num` generated examples and as many real ones; keys of these two numbers."""
        fake, (real, labels) = self.fake(generator, numbers[0], num), self.real(numbers[1], num)
        fake_logits = self.logits(discriminator, fake, self.labels(num))
        real_logits = self.logits(discriminator, real, labels)
        num = min(num, len(real))
        return gan.diagnose(self.losses, real_logits[:num], fake_logits[:num], real[:num], fake[:num])
