"""Settings of `guided_diffusion`: those of `ddpm` with other defaults, and of labels, classifier and guidance."""

import dataclasses
from typing import Any, Literal

from experiments.command import checks
from experiments.ddpm import config as ddpm
from experiments.ddpm import model as ddpm_model
from experiments.ddpm.config import check_rates
from jaxgen import data, diffusion, training
from jaxgen.diffusion import GuidanceKind, Sampler, SamplingVariant
from jaxgen.diffusion.unet.attention import QKVOrder
from jaxgen.diffusion.unet.networks import Pool


@dataclasses.dataclass(frozen=True)
class Network(ddpm_model.Network):
    """A U-Net, or its encoder."""

    channels: int = 256
    """the unit of the number of channels"""
    multipliers: tuple[float, ...] = (1, 1, 2, 2, 4, 4)
    """factors of the number of channels, one for each level; each level halves the image"""
    attention: tuple[int, ...] = (32, 16, 8)
    """heights of the feature map at which blocks are followed by attention"""
    heads: int = 4
    """number of attention heads, where head_channels is 0"""
    dropout: float = 0.0
    """dropout rate in the residual blocks, in training"""
    head_channels: int = 64
    """channels of a head, whose number then grows with the width; 0: a fixed number of heads"""
    qkv_order: QKVOrder = "heads_first"
    """order of the channels of the attention"""
    scale_shift: bool = True
    """step and class scale and shift the norm of a block instead of being added"""
    resample: Literal["conv", "plain", "residual"] = "residual"
    """how resolution changes; "residual" is BigGAN's"""

    def attributes(self) -> dict[str, Any]:
        """Attributes of `diffusion.UNet` and `EncoderUNet`; those without a field are as in the authors' code."""
        return super().attributes() | {
            "head_channels": self.head_channels or None,
            "qkv_order": self.qkv_order,
            "scale_shift": self.scale_shift,
            "resample": self.resample,
            "embedding": "cos_sin",
            "stride_padding": "symmetric",
            "norm_epsilon": 1e-5,
            "initialization": "fan_in",
        }


@dataclasses.dataclass(frozen=True)
class ClassifierNetwork(Network):
    """The classifier of noisy images."""

    channels: int = 128
    """the unit of the number of channels"""
    pool: Pool = "attention"
    """how positions are pooled; "attention" needs head_channels"""


@dataclasses.dataclass(frozen=True)
class DiffusionConfig(ddpm_model.DiffusionConfig):
    """The noise schedule, the meaning of the network's output, and the loss."""

    variance: Literal["by_loss", "fixed_small", "fixed_large", "learned", "learned_range"] = "by_loss"
    """variance of p(x_{t-1} | x_t); "by_loss": "learned_range" """
    loss: ddpm_model.LossName = "rescaled_mse"
    """"mse": L_simple, plus L_t where the variance is learned; "rescaled_mse": L_hybrid; "rescaled_kl": L_vlb, the
    bound in bits/dim, best with --timesteps.sampler loss_second_moment; "kl": L_t unscaled, see
    `diffusion.training_loss`; "simple", for a fixed variance, is an old name of "mse" """


@dataclasses.dataclass(frozen=True)
class Timesteps:
    """How the t of a training example is drawn."""

    sampler: Literal["uniform", "loss_second_moment"] = "uniform"
    """"loss_second_moment": more often where recent losses were large, with weights that keep the loss unbiased"""
    history: int = 10
    """number of losses that are kept for each t; t is uniform until all are there"""
    uniform: float = 0.001
    """share of the probability that does not depend on the losses"""

    @property
    def uniform_share(self) -> float | None:
        """Of `diffusion.denoising_objective`."""
        return None if self.sampler == "uniform" else self.uniform

    def init_history(self, process: DiffusionConfig) -> diffusion.LossHistory | None:
        """The history of losses before the first step, where one is kept."""
        return diffusion.init_history(process.steps, self.history) if self.sampler != "uniform" else None

    def check(self) -> list[str]:
        """The problems of these settings."""
        if self.history >= 1 and 0 < self.uniform <= 1:
            return []
        return [
            f"timesteps.history is {self.history} and timesteps.uniform {self.uniform}; expected at least 1, and a "
            "share in (0, 1]"
        ]


@dataclasses.dataclass(frozen=True)
class Labels:
    """Class labels as input of the network."""

    conditional: bool = True
    """the network is class-conditional"""
    classes: int = 0
    """number of classes; 0: as many as the training images in memory have"""
    dropout: float = 0.0
    """share of the training examples whose label is dropped, so that there is a model without labels too"""


@dataclasses.dataclass(frozen=True)
class Classifier:
    """The classifier of noisy images."""

    network: ClassifierNetwork = ClassifierNetwork()
    optimizer: training.Optimizer = training.Optimizer("adamw", 3e-4, "linear", weight_decay=0.05)
    num_steps: int = 0
    """number of updates, before those of the U-Net; 0: no classifier"""
    batch_size: int = 256
    """examples an update; everything else is as in `train`"""
    noised: bool = True
    """train on images of every noise level, and not on clean ones alone"""
    crop: float = 1.0
    """smallest side of the random square that is cut from an image, as a share of its side; 1: no crop"""
    trained: str = ""
    """a trained classifier in its place: folder of a run of this experiment, or file that the authors released"""

    @property
    def exists(self) -> bool:
        """Whether there is a classifier."""
        return bool(self.num_steps or self.trained)

    def check(self) -> list[str]:
        """The problems of these settings."""
        problems = []
        if not 0 < self.crop <= 1:
            problems.append(f"classifier.crop is {self.crop}; it must be in (0, 1]")
        if self.num_steps < 0 or self.batch_size < 1:
            problems.append("classifier.num_steps must be 0 or more, and classifier.batch_size at least 1")
        elif self.num_steps and not self.trained:
            problems += checks.errors_of(lambda: training.build_optimizer(self.optimizer, self.num_steps))
        return problems


@dataclasses.dataclass(frozen=True)
class Guidance:
    """How samples are guided towards their class."""

    kinds: tuple[GuidanceKind, ...] = ("classifier",)
    """"classifier": by the gradient of log p(y | x_t); "classifier_alone": likewise, of the model without labels;
    "classifier_free": away from that model; "none": no guidance"""
    scales: tuple[float, ...] = (1.0,)
    """each is measured; there is no guidance at 0, and of "classifier_free" at 1"""
    interval: tuple[float, float] = (0.0, 1.0)
    """part of the timesteps with guidance, from 0, the data, to 1, the noise"""

    def check(self, labels: Labels, has_classifier: bool) -> list[str]:
        """The problems of these settings with such labels, and with or without a classifier."""
        problems = []
        if not 0 <= self.interval[0] <= self.interval[1] <= 1:
            problems.append(f"guidance.interval is {self.interval}; expected (first, last) in [0, 1], first <= last")
        if not self.kinds or (not self.scales and set(self.kinds) != {"none"}):
            problems.append("guidance.kinds or guidance.scales is empty; --guidance.kinds none is the model alone")
        for kind in self.kinds:
            if kind in ("classifier", "classifier_alone") and not has_classifier:
                problems.append(
                    f"guidance.kinds has {kind!r}, and the run has no classifier: set --classifier.num-steps N to "
                    "train one, or --classifier.trained FOLDER to take another run's"
                )
            if kind in ("classifier", "classifier_free") and not labels.conditional:
                problems.append(
                    f"guidance.kinds has {kind!r}, and the model is unconditional, so it has no classes; set "
                    "--labels.conditional, or --guidance.kinds classifier_alone"
                )
            if kind in ("classifier_alone", "classifier_free") and labels.conditional and not labels.dropout:
                problems.append(
                    f"guidance.kinds has {kind!r}, which needs the model without labels too, and labels.dropout is 0: "
                    "train with --labels.dropout 0.1"
                )
        return problems

    def timesteps(self, schedule: diffusion.Schedule) -> tuple[int, int] | None:
        """The interval in original timesteps, first and last; None: all."""
        last = schedule.num_original_steps - 1
        first, end = (round(share * last) for share in self.interval)
        return None if (first, end) == (0, last) else (first, end)


@dataclasses.dataclass(frozen=True)
class Evaluation(ddpm.Evaluation):
    """What is measured at the end."""

    samples: int = 1000
    """number of samples of each variant for classifier-FID, precision and recall; 0: only the samples of the figures"""
    sampler: Sampler = Sampler("ddim", "ddim25")
    second: Sampler = Sampler(steps="250")
    """another sampler"""
    second_scales: tuple[float, ...] = ()
    """scales, of the first kind of guidance, at which the second sampler is measured as well"""
    levels: int = 11
    """number of noise levels at which the classifier is tested"""
    classified: int = 1000
    """number of test images that it is tested on; all where there are fewer"""

    @property
    def samplers(self) -> tuple[Sampler, ...]:
        """All samplers that are measured."""
        return (self.sampler, self.second)

    def check(self, train: data.Images, test: data.Images) -> list[str]:
        """What cannot be measured on such data."""
        problems = super().check(train, test)
        if self.levels < 1 or self.classified < 1:
            problems.append("evaluation.levels and evaluation.classified must be at least 1")
        return problems


@dataclasses.dataclass(frozen=True)
class Config(ddpm.Config):
    """A diffusion model and its guide."""

    network: Network = Network()
    process: DiffusionConfig = DiffusionConfig()
    optimizer: training.Optimizer = training.Optimizer("adamw", 1e-4)
    labels: Labels = Labels()
    low_resolution: int = 0
    """height and width of the small image that an upsampler enlarges; 0: no upsampler"""
    timesteps: Timesteps = Timesteps()
    classifier: Classifier = Classifier()
    # Untracked, as the evaluation.
    guidance: Guidance = training.untracked(Guidance())
    evaluation: Evaluation = training.untracked(Evaluation())
    train: training.Settings = training.Settings(num_steps=500_000, batch_size=256)

    def check(self) -> list[str]:
        """The problems of these settings that do not depend on the data."""
        problems = super().check() + self.timesteps.check() + self.classifier.check()
        problems += check_rates(self, "labels.dropout", "classifier.network.dropout")
        if self.labels.dropout and not self.labels.conditional:
            problems.append("labels.dropout leaves labels out that the network is not told: set it to 0")
        if self.low_resolution and not self.labels.conditional and "classifier_alone" in self.guidance.kinds:
            problems.append("an upsampler without labels draws no classes in turn that a classifier could guide to")
        return problems + self.guidance.check(self.labels, self.classifier.exists)

    def check_size(self, shape: tuple[int, int, int]) -> list[str]:
        """The problem of a small image that does not fit into images [H, W, C]."""
        small = self.low_resolution
        if small >= 0 and (not small or (shape[0] == shape[1] and shape[0] % small == 0 and small < shape[0])):
            return []
        return [
            f"low_resolution is {small} for images of {shape[0]} x {shape[1]}; its side must divide that of a square "
            "image, and be smaller"
        ]


def build_classifier(
    network: ClassifierNetwork, process: ddpm_model.DiffusionConfig, classes: int, shape: tuple[int, int, int]
) -> diffusion.DiffusionModel:
    """The classifier of a config for images [H, W, C] with `classes` labels."""
    encoder = diffusion.EncoderUNet(
        in_channels=shape[2], out_channels=classes, pool=network.pool, **network.attributes()
    )
    return diffusion.DiffusionModel(
        encoder, process.make_schedule(), shape=shape, rescaled_timesteps=process.rescaled_timesteps
    )


def variants(config: Config, schedule: diffusion.Schedule) -> list[SamplingVariant]:
    """Everything that is measured, each once: scales without guidance are "unguided" or "without_labels"."""
    guidance, evaluation, interval = config.guidance, config.evaluation, config.guidance.timesteps(schedule)
    unique: dict[str, SamplingVariant] = {}

    def add(kind: GuidanceKind, scale: float, sampler: Sampler, suffix: str = "") -> None:
        labels, name = kind != "classifier_alone", f"{kind}_{scale:g}"
        if kind == "none" or (kind, scale) in (("classifier", 0), ("classifier_free", 1)):
            kind, scale, name = "none", 1.0, "unguided"
        elif scale == 0:
            kind, scale, labels, name = "none", 1.0, False, "without_labels"
        variant = SamplingVariant(sampler, kind, scale, labels, interval, name + suffix)
        unique.setdefault(variant.name, variant)

    for kind in guidance.kinds:
        for scale in guidance.scales or (1.0,):
            add(kind, scale, evaluation.sampler)
    for scale in evaluation.second_scales:
        add(guidance.kinds[0], scale, evaluation.second, f"_{evaluation.second.steps or 'all'}_steps")
    return list(unique.values())
