"""The presets of `ddpm`."""

import dataclasses

from experiments.command import image_data
from experiments.ddpm.config import Config, Evaluation
from experiments.ddpm.model import DiffusionConfig, Network
from jaxgen import training
from jaxgen.diffusion import Sampler

_PAPER = training.Settings(
    num_steps=800_000, batch_size=128, log_every=1000, save_every=5000, deterministic=True
)  # fmt: skip
# Ho et al., appendix B. CIFAR-10 in about half a day on eight TPU cores.
_CIFAR10 = Config(
    data=image_data.ImageData("cifar10", flip=True),
    ema_warm_up=False,
    evaluation=Evaluation(images=10_000, samples=50_000, sampler=Sampler(), batch_size=250),
    train=_PAPER,
)


def _at_256(num_steps: int) -> Config:
    """The paper's settings at 256 x 256 pixels."""
    return dataclasses.replace(
        _CIFAR10,
        data=image_data.ImageData("images", size=256, flip=True),
        network=Network(multipliers=(1, 1, 2, 2, 4, 4), dropout=0.0),
        optimizer=dataclasses.replace(_CIFAR10.optimizer, learning_rate=2e-5),
        # No labels, no classifier: a distance needs --evaluation.inception FILE --evaluation.samples 50000.
        evaluation=Evaluation(images=256, samples=0, sampler=Sampler(), batch_size=16),
        train=dataclasses.replace(_PAPER, num_steps=num_steps, batch_size=64, prefetch=2),
    )


# With few steps beta_t is too large a variance (Nichol & Dhariwal 2021, section 4).
_respaced = lambda steps: Sampler(steps=steps, variance="fixed_small")

PRESETS = {
    # Offline, two minutes on two cores.
    "quick": Config(
        network=Network(32, (1, 2), 1, (), groups=8, dropout=0.0),
        # At 8 x 8 pixels the second half of the linear schedule is pure noise.
        process=DiffusionConfig("cosine"),
        optimizer=training.Optimizer("adam", 2e-3, "cosine", warmup_steps=100, clip=1.0),
        ema=0.999,
        preview_every=0,
        evaluation=Evaluation(images=20, samples=360, sampler=_respaced("50"), batch_size=120),
        train=training.Settings(num_steps=1000, batch_size=32, log_every=100, save_every=500),
    ),
    # Ten epochs and the evaluation in an hour on two cores.
    "mnist": Config(
        data=image_data.ImageData("mnist"),
        network=Network(16, (1, 2, 4), 1, (7,), groups=8, dropout=0.0),
        optimizer=training.Optimizer("adam", 2e-3, "cosine", warmup_steps=500, clip=1.0),
        ema=0.999,
        preview_every=1000,
        evaluation=Evaluation(images=256, samples=2000, sampler=_respaced("100"), batch_size=64),
        train=training.Settings(num_steps=9380, batch_size=64, log_every=100, save_every=500),
    ),
    "cifar10": _CIFAR10,
    "celeba_hq_256": _at_256(500_000),
    # Church. Bedroom: --train.num-steps 2400000; Cat: --train.num-steps 1800000 --data.no-flip.
    "lsun": _at_256(1_200_000),
}
# Ho et al. (2020), tables 1 and 2 and section 4.3, CIFAR-10. Their FID is on Inception's features.
PAPER_CIFAR10 = {"bits_per_dim": 3.75, "rate": 1.78, "distortion": 1.97, "fid": 3.17, "inception_score": 9.46}
