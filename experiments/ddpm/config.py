"""Settings of `ddpm`, most of which `guided_diffusion` shares."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

import jax
import numpy as np

from experiments.command import checks, image_data
from experiments.ddpm.model import DiffusionConfig, Network, build_model
from experiments.sample_batches import feature_classifier
from jaxgen import data, metrics, training
from jaxgen.diffusion import Sampler


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What is measured at the end."""

    images: int = 256
    """largest number of test images whose bound is measured, with all T steps; 0: none"""
    samples: int = 2000
    """number of samples for classifier-FID, precision and recall; 0, or without labels: only those of the figures"""
    sampler: Sampler = Sampler(steps="100", variance="fixed_small")
    reference: Literal["train", "test"] = "train"
    """the split that samples are compared with; as many images of the other one are the floor"""
    features: str = training.untracked("")
    """file of the classifier that gives features, trained where the file does not exist; empty: features.npz in the
    workdir"""
    inception: str = training.untracked("")
    """file of Inception's weights, see `metrics.load_inception`: the distance is then FID, on its features"""
    batch_size: int = training.untracked(64)
    """images at a time; a sample does not depend, to rounding, on the batch it is drawn in"""
    fixed_batch_size: int = training.untracked(0, old_names=("exact_shard",))
    """K > 0: samples are computed K at a time on each device, so that their bits depend on (seed, number) alone, not on
    the number of devices or on which others are drawn"""

    @property
    def samplers(self) -> tuple[Sampler, ...]:
        """All samplers that are measured."""
        return (self.sampler,)

    def check(self, train: data.Images, test: data.Images) -> list[str]:
        """What cannot be measured on such data."""
        problems = []
        if min(self.images, self.samples, self.fixed_batch_size) < 0 or self.batch_size < 1:
            problems.append(
                "evaluation.images, samples and fixed_batch_size must be 0 or more, and evaluation.batch_size at "
                "least 1"
            )
        if 0 < self.samples < 10:
            problems.append(f"evaluation.samples is {self.samples}; statistics need at least 10, or 0 for none")
        if self.inception and not Path(self.inception).expanduser().is_file():
            problems.append(f"no file {self.inception}; --evaluation.inception is that of Inception's weights")
        elif self.inception:
            problems += checks.errors_of(lambda: metrics.load_inception(self.inception))
        elif self.features and self.fit_to_data(train, test).samples:
            problems += checks.errors_of(lambda: feature_classifier.check(self.features, train, test))
        return problems

    def fit_to_data(self, train: data.Images, test: data.Images) -> Self:
        """With as many test images as there are, and without samples to compare where there are no features."""
        labelled = train.label is not None and test.label is not None and len(np.unique(train.label)) > 1
        comparable = min(len(train), len(test)) > 3 and (labelled or bool(self.inception))
        return dataclasses.replace(self, images=min(self.images, len(test)), samples=self.samples if comparable else 0)

    def note_data(self, train: data.Images, test: data.Images) -> None:
        """Notes what `fit_to_data` changes."""
        checks.note_fewer("evaluation.images", self.images, len(test), "test images")
        if self.samples != self.fit_to_data(train, test).samples:
            checks.note(
                "samples are drawn but not compared: that needs four images in each split, and labels of two classes "
                "to train a classifier on, or Inception's weights (--evaluation.inception FILE)"
            )


@dataclasses.dataclass(frozen=True)
class Config:
    """A diffusion model."""

    seed: int = 0
    """random seed"""
    data: image_data.ImageData = image_data.ImageData()
    network: Network = Network()
    process: DiffusionConfig = DiffusionConfig()
    optimizer: training.Optimizer = training.Optimizer("adam", 2e-4, warmup_steps=5000, clip=1.0)
    ema: float = 0.9999
    """decay of the moving average of the parameters, which is evaluated and sampled from"""
    ema_warm_up: bool = True
    """the decay starts low, (1 + step) / (10 + step), so that the average soon forgets the random start"""
    preview_every: int = training.untracked(5000)
    """steps between previews of samples in training; 0: none"""
    preview: Sampler = Sampler("dpm_solver", "logsnr20")
    # Untracked, because nothing trained depends on it: a trained run may be measured again in another way.
    evaluation: Evaluation = training.untracked(Evaluation())
    train: training.Settings = training.Settings(num_steps=800_000, batch_size=128)

    @property
    def ema_decay(self) -> float | Callable[[jax.Array], jax.Array]:
        """Decay of the moving average, a number or a function of the step."""
        return training.warm_up_decay(self.ema) if self.ema_warm_up else self.ema

    def check(self) -> list[str]:
        """The problems of these settings that do not depend on the data."""
        problems = self.data.check() + self.process.check()
        if not checks.errors_of(self.process.make_schedule):
            schedule = self.process.make_schedule()
            for sampler in dict.fromkeys((self.preview, *self.evaluation.samplers)):
                problems += sampler.check(schedule)
        problems += checks.errors_of(lambda: training.build_optimizer(self.optimizer, self.train.num_steps))
        if not 0 < self.ema < 1:
            problems.append(f"ema is {self.ema}; it must be in (0, 1)")
        return problems + check_rates(self, "network.dropout") + checks.bounds(self, preview_every=0)


def check_rates(config: Any, *names: str) -> list[str]:
    """The problems of fields with these dotted names that are no rates in [0, 1)."""
    problems = []
    for name in names:
        rate = config
        for part in name.split("."):
            rate = getattr(rate, part)
        if not 0 <= rate < 1:
            problems.append(f"{name} is {rate}; it must be in [0, 1)")
    return problems


def validate_and_load(config: Config) -> image_data.Splits:
    """Checks the config and reads the images.

    Raises:
        ValueError: the config has problems; all are named.
    """

    def counts(*images: data.Images) -> list[str]:
        problems = config.evaluation.check(*images)
        if config.process.loss == "rescaled_mse" and not config.process.learned:
            problems.append(
                f"process.loss 'rescaled_mse' trains a learned variance, and process.variance is "
                f"{config.process.variance!r}: set --process.variance learned_range, or --process.loss mse"
            )
        return problems

    def build(train: data.Images, _) -> list[str]:
        model = lambda: build_model(config.network, config.process, train.shape)
        return checks.errors_of(lambda: jax.eval_shape(model().init, jax.random.key(0)))

    images = image_data.validate_and_load(config, counts=counts, build=build)
    config.evaluation.note_data(*images)
    return images


def extendable_fields(config: Config) -> tuple[str, ...]:
    """A run may be extended where the learning-rate schedule does not depend on the number of steps."""
    return ("train.num_steps",) if config.optimizer.schedule == "constant" else ()
