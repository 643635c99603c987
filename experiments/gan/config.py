"""The configuration of a GAN experiment, and the presets."""

import dataclasses
from typing import Literal

from experiments.command import checks, image_data
from experiments.gan.data import MIXTURES, Images, Points
from jaxgen import training


@dataclasses.dataclass(frozen=True)
class Model:
    """The generator and the discriminator."""

    architecture: Literal["points", "maxout", "dcgan"] = "points"
    """"points": dense layers, no output nonlinearity; "maxout": the paper's for images; "dcgan": convolutions"""
    noise: Literal["normal", "uniform"] = "normal"
    """distribution of z, with variance 1"""
    noise_size: int = 2
    """dimensions of z"""
    generator_widths: tuple[int, ...] = (128, 128)
    """points, maxout: hidden layers"""
    discriminator_widths: tuple[int, ...] = (128, 128)
    """points: hidden layers; maxout: units of each, with five pieces"""
    channels: int = 32
    """dcgan: channels of the largest feature map"""
    groups: int = 8
    """dcgan: groups of the generator's group normalisation; 0: no normalisation"""
    conditional: bool = False
    """dcgan: both players take the label"""

    def check(self) -> list[str]:
        """The problems of these settings."""
        problems = checks.bounds(self, "model.", noise_size=1)
        if self.conditional and self.architecture != "dcgan":
            problems.append("model.conditional needs model.architecture 'dcgan'")
        return problems


@dataclasses.dataclass(frozen=True)
class Objective:
    """Losses, penalties and the order of updates."""

    loss: Literal["non_saturating", "saturating", "least_squares", "wasserstein", "hinge"] = "non_saturating"
    """what each player minimises; "saturating" is the min-max game"""
    halved: bool = False
    """the discriminator's loss is the mean of its two halves, as in the authors' code, not their sum"""
    penalty: Literal["none", "r1", "gradient"] = "none"
    """on the discriminator's gradient: at real points, or between real and generated ones"""
    penalty_weight: float = 0.1
    """gamma of R1; 10 in the paper of the gradient penalty"""
    spectral: bool = False
    """spectral normalisation of the discriminator"""
    discriminator_steps: int = 1
    """steps of the discriminator for each of the generator, each on its own data and noise"""
    order: Literal["alternating", "simultaneous"] = "alternating"
    """whether the generator is updated after the discriminator or at the same time, as in the authors' code"""
    ema: float = 0.999
    """decay of the moving average of the generator, which is then evaluated; 0: none"""

    def check(self) -> list[str]:
        """The problems of these settings."""
        problems = checks.bounds(self, "objective.", discriminator_steps=1, penalty_weight=0)
        if not 0 <= self.ema < 1:
            problems.append(f"objective.ema is {self.ema}; it must be in [0, 1), 0 for none")
        return problems


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Measures of the generator, diagnostics and figures."""

    samples: int = 10_000
    """images: number of samples for each measure"""
    held_out: int = 10_000
    """images: number of training images, the last ones, that choose the Parzen window's width, and the step; a sixth of
    them where this is over half"""
    centres: int = 10_000
    """images: largest number of k-means centres to compare with; 0: none"""
    select_every: int = 0
    """images: steps between Parzen estimates on held-out images, the best of which selects the generator that is
    evaluated; 0, or in a shorter training: the last generator"""
    check_every: int = training.untracked(0)
    """steps between training diagnostics; 0: a twentieth of the training"""
    frames: int = training.untracked(40)
    """number of animation frames"""
    features: str = training.untracked("")
    """images: file of the classifier whose features are compared, written if absent; empty: in the workdir"""

    def check(self) -> list[str]:
        """The problems of these settings."""
        return checks.bounds(
            self, "evaluation.", samples=10, held_out=1, frames=1, centres=0, select_every=0, check_every=0
        )


@dataclasses.dataclass(frozen=True)
class Config:
    """A generative adversarial network."""

    seed: int = 0
    """random seed"""
    seeds: int = 1
    """number of trainings, with the seeds seed, seed + 1, ...; the results are mean and standard deviation"""
    data: image_data.FlatImageData = image_data.FlatImageData("ring")
    """name may also be "ring" (8 Gaussians), "grid" (25) and "gaussian" (one, on a line)"""
    model: Model = Model()
    objective: Objective = Objective()
    generator: training.Optimizer = training.Optimizer("adam", 4e-3, "cosine", beta1=0.5)
    discriminator: training.Optimizer = training.Optimizer("adam", 4e-3, "cosine", beta1=0.5)
    evaluation: Evaluation = Evaluation()
    train: training.Settings = training.Settings(num_steps=8000, batch_size=256, save_every=4000)

    def check(self) -> list[str]:
        """The problems of the configuration that are known without the data."""
        problems = []
        if not 1 <= self.seeds <= 2**32 - self.seed:
            problems.append(f"seeds is {self.seeds}; it must be at least 1")
        points, architecture = self.data.name in MIXTURES, self.model.architecture
        more = " and the preset dcgan" if architecture == "points" else ""
        problems += image_data.folder_problems(self.data, ("digits", "curves", *MIXTURES), more)
        if points != (architecture == "points"):
            problems.append(
                f"model.architecture is {architecture!r}; for the data {self.data.name!r} it must be "
                f"{'points' if points else 'maxout or dcgan'}"
            )
        if points and (self.data.distort or self.data.size):
            problems.append(f"data.name is {self.data.name!r}: points have no data.size or data.distort")
        if points and self.evaluation.select_every:
            problems.append(
                f"evaluation.select_every is {self.evaluation.select_every}; only images have a Parzen estimate"
            )
        if self.train.exact_shards and self.objective.spectral and self.objective.order == "simultaneous":
            problems.append(
                "train.exact_shards promises the same bits on any number of devices, and objective.spectral with "
                "objective.order 'simultaneous' does not keep that promise (one device rounds the generator's gradient "
                "differently): leave it at 0, or set --objective.order alternating"
            )
        problems += checks.bounds(self.data, "data.", distort=0, held_out=0)
        problems += [*self.model.check(), *self.objective.check(), *self.evaluation.check()]
        steps = self.train.num_steps
        return problems + checks.errors_of(
            lambda: training.build_optimizer(self.generator, steps),
            lambda: training.build_optimizer(self.discriminator, steps * max(self.objective.discriminator_steps, 1)),
        )

    def note_data(self, data: Points | Images) -> None:
        """Notes where there are fewer images than settings say."""
        if isinstance(data, Images):
            if len(data.validation) != self.evaluation.held_out:
                checks.note(
                    f"evaluation.held_out is {self.evaluation.held_out}, of {len(data.whole)} training images: "
                    f"{len(data.validation)} are held out"
                )
            checks.note_fewer("evaluation.centres", self.evaluation.centres, len(data.train), "training images")
            if data.train.label is not None and not data.has_features:
                checks.note("there are too few images, or classes, to compare samples by a classifier's features")


MNIST_EPOCH = 500  # 50,000 images in batches of 100
_RING = Config(
    objective=Objective(penalty="r1", penalty_weight=0.1, ema=0.99),
    train=training.Settings(num_steps=5000, batch_size=256),
)
_DCGAN = Config(
    data=image_data.FlatImageData("mnist"),
    model=Model("dcgan", "normal", 64),
    objective=Objective(penalty="r1", penalty_weight=0.1),
    generator=training.Optimizer("adam", 5e-4, "cosine", beta1=0.5),
    discriminator=training.Optimizer("adam", 5e-4, "cosine", beta1=0.5),
    train=training.Settings(num_steps=25_000, batch_size=64, log_every=250, save_every=2500),
)
_PLAYERS_2014 = Model("maxout", "uniform", 100, (1200, 1200), (240, 240))
_SGD_2014 = training.Optimizer("sgd", 0.1, "goodfellow", momentum=0.5, epoch_steps=MNIST_EPOCH)

PRESETS = {
    # Offline, about a minute on two cores.
    "quick": _RING,
    # More noise than dimensions of the data, and a discriminator that learns faster than the generator.
    "grid": dataclasses.replace(
        _RING,
        data=image_data.FlatImageData("grid"),
        model=Model(noise_size=16),
        generator=training.Optimizer("adam", 2e-3, "cosine", beta1=0.5),
        train=training.Settings(num_steps=8000, batch_size=256),
    ),
    # The simplest game: D must end at 1/2 wherever there is data.
    "gaussian": Config(
        data=image_data.FlatImageData("gaussian"),
        model=Model(noise_size=1, generator_widths=(16,), discriminator_widths=(16, 16)),
        objective=Objective(penalty="r1", penalty_weight=0.3, ema=0.99),
        generator=training.Optimizer("adam", 5e-3, "cosine", beta1=0.5),
        discriminator=training.Optimizer("adam", 5e-3, "cosine", beta1=0.5),
        train=training.Settings(num_steps=2000, batch_size=128),
    ),
    # The paper's players with Adam and R1: without it the discriminator has won after two epochs.
    "mnist": Config(
        data=image_data.FlatImageData("mnist"),
        model=_PLAYERS_2014,
        objective=Objective(penalty="r1", penalty_weight=0.1),
        generator=training.Optimizer("adam", 2e-4, beta1=0.5),
        discriminator=training.Optimizer("adam", 2e-4, beta1=0.5),
        evaluation=Evaluation(select_every=5 * MNIST_EPOCH),
        train=training.Settings(num_steps=60 * MNIST_EPOCH, batch_size=100, save_every=5 * MNIST_EPOCH),
    ),
    "dcgan": _DCGAN,
    # Both players take the label. The best result on MNIST, in three quarters of an hour on two cores.
    "conditional": dataclasses.replace(
        _DCGAN,
        model=dataclasses.replace(_DCGAN.model, conditional=True),
        objective=dataclasses.replace(_DCGAN.objective, ema=0.9999),
        evaluation=Evaluation(select_every=2500),
        train=dataclasses.replace(_DCGAN.train, num_steps=15_000),
    ),
    # The configuration that the authors released, without the end that it lacks: the epoch with the highest Parzen
    # estimate on their validation images.
    "paper": Config(
        data=image_data.FlatImageData("mnist"),
        model=_PLAYERS_2014,
        objective=Objective(halved=True, order="simultaneous", ema=0.0),
        generator=_SGD_2014,
        discriminator=_SGD_2014,
        evaluation=Evaluation(select_every=5 * MNIST_EPOCH),
        train=training.Settings(
            num_steps=1000 * MNIST_EPOCH, batch_size=100, log_every=MNIST_EPOCH, save_every=5 * MNIST_EPOCH,
            deterministic=True,
        ),
    ),
}  # fmt: skip
PAPER_PARZEN = 225.0  # nats, table 1, MNIST; standard error over the test images 2


def extendable_fields(config: Config) -> tuple[str, ...]:
    """A training may be resumed with more steps if no learning-rate schedule depends on their number."""
    schedules = {config.generator.schedule, config.discriminator.schedule}
    return ("train.num_steps",) if schedules <= {"constant", "goodfellow"} else ()
