"""Settings of `ddpm`, most of which `guided_diffusion` shares."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax

from experiments.command import checks, image_data
from experiments.ddpm.model import DiffusionConfig, Network, build_model
from jaxgen import data, training
from jaxgen.diffusion import Sampler


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What is measured at the end."""

    images: int = 256
    """number of test images whose bound is measured, with all T steps; 0: none"""
    samples: int = 2000
    """number of samples for classifier-FID, precision and recall; 0: only the samples of the figures"""
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
        if self.images > len(test):
            problems.append(
                f"evaluation.images is {self.images}; the test split has {len(test)}: set "
                f"--evaluation.images {len(test)}, or 0 for no bound"
            )
        if self.samples and not self.inception and (train.label is None or test.label is None):
            problems.append(
                "the data has no labels to train a classifier on, so there are no features to compare samples by: "
                "set --evaluation.samples 0, or give Inception's weights with --evaluation.inception FILE"
            )
        if self.inception and not Path(self.inception).expanduser().is_file():
            problems.append(f"no file {self.inception}; --evaluation.inception is that of Inception's weights")
        return problems


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
        problems = self.process.check()
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
    problems = config.check()
    if config.process.loss == "rescaled_mse" and not config.process.learned:
        problems.append(
            f"process.loss 'rescaled_mse' trains a learned variance, and process.variance is "
            f"{config.process.variance!r}: set --process.variance learned_range, or --process.loss mse"
        )
    checks.refuse(problems)
    images = image_data.load(config.data)
    shape = images[0].shape
    init = lambda: jax.eval_shape(build_model(config.network, config.process, shape).init, jax.random.key(0))
    checks.refuse(config.evaluation.check(*images) + checks.errors_of(init))
    return images


def extendable_fields(config: Config) -> tuple[str, ...]:
    """A run may be extended where the learning-rate schedule does not depend on the number of steps."""
    return ("train.num_steps",) if config.optimizer.schedule == "constant" else ()
