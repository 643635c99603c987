"""The configuration of a NeRF experiment, and the presets."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
from flax import linen as nn

from experiments.command import checks
from experiments.nerf.data import Data
from experiments.nerf.evaluation import Evaluation
from jaxgen import nerf, training


@dataclasses.dataclass(frozen=True)
class Model:
    """The coarse and the fine network, of the same shape."""

    depth: int = 8
    """number of hidden layers on the position"""
    width: int = 256
    """their width"""
    skips: tuple[int, ...] = (4,)
    """numbers of the layers, from 0, after which the encoded position is concatenated again"""
    view_depth: int = 1
    """number of hidden layers after the direction of view is added; 4 in the paper's text, 1 in its runs"""
    view_width: int = 128
    """their width"""
    view_dependent: bool = True
    """whether the color depends on the direction"""
    position_frequencies: int = 10
    """frequencies L of the encoding of positions"""
    direction_frequencies: int = 4
    """frequencies L of the encoding of directions"""
    pi: bool = False
    """the factor pi in the encoding, which is in the paper but not in its code"""
    density: Literal["relu", "softplus"] = "relu"
    """activation of the density; "softplus" is shifted by -1, and its gradient never vanishes"""
    rgb_padding: float = 0.0
    """distance by which colors may exceed [0, 1], so that black and white have a gradient"""

    def build(self) -> nerf.NeRF:
        """The network."""
        fields: dict[str, Any] = dict(vars(self))
        activation = {"relu": nn.relu, "softplus": nerf.shifted_softplus}[fields.pop("density")]
        return nerf.NeRF(**fields, density_activation=activation)


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Samples along a ray."""

    coarse: int = 64
    """number of stratified samples"""
    fine: int = 128
    """number of further samples, by the weights of the coarse network; 0: no fine network"""
    in_disparity: bool = False
    """whether samples are stratified in 1 / t"""
    half_end_bins: bool = False
    """whether the first and last bin are half as wide, as in the authors' code"""
    infinite_last_interval: bool = training.renamed(True, "endless")
    """whether the last interval is infinite, as in the paper, or ends at `far`"""
    noise_std: float = 0.0
    """standard deviation of noise on the density in training; in the paper 1 for photographs"""

    def check(self) -> list[str]:
        """The problems of these settings."""
        if self.coarse < 3 or self.fine < 0:
            return ["sampling.coarse must be at least 3 and sampling.fine 0 (no fine network) or more"]
        return []

    def settings(self, background: float | None) -> dict[str, Any]:
        """Keyword arguments of `nerf.render_rays`."""
        settings = {
            "num_coarse": self.coarse,
            "background": background,
            "in_disparity": self.in_disparity,
            "half_end_bins": self.half_end_bins,
            "infinite_last_interval": self.infinite_last_interval,
        }
        return settings | ({"num_fine": self.fine} if self.fine else {})


@dataclasses.dataclass(frozen=True)
class Rays:
    """The rays of a step."""

    one_image: bool = False
    """whether all rays of a step are from one image, as in the authors' runs on Blender scenes, or from all images"""
    crop_steps: int = 0
    """number of first steps in which rays are from the middle of the images, where the object is"""
    crop_fraction: float = 0.5
    """height and width of that middle, as a fraction of the image's"""

    def check(self, num_steps: int) -> list[str]:
        """The problems of these settings in a training of `num_steps`."""
        problems = []
        if not 0 <= self.crop_steps <= num_steps:
            problems.append(
                f"rays.crop_steps is {self.crop_steps}; it must be from 0 to num_steps = {num_steps}: where the "
                "training is shortened, shorten it too (--rays.crop-steps)"
            )
        if not 0 < self.crop_fraction <= 1:
            problems.append(f"rays.crop_fraction is {self.crop_fraction}; it must be in (0, 1]")
        return problems


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """Adam with a decaying learning rate."""

    learning_rate: float = 5e-4
    """learning rate at the first step"""
    final_rate: float = 5e-5
    """learning rate after `decay_steps`"""
    decay: Literal["exponential", "cosine"] = "exponential"
    """shape of the decay; "exponential" as in the paper, "cosine" for short trainings"""
    decay_steps: int = 0
    """steps of the decay; 0: those of the training"""
    delay_steps: int = 0
    """steps in which the rate rises from delay_factor times its value; 2500 in JaxNeRF"""
    delay_factor: float = 0.01
    """factor of the rate at the first step, with `delay_steps`"""
    epsilon: float = 1e-7
    """epsilon of Adam"""
    clip: float = 0.0
    """largest gradient norm; 0: no clipping"""

    def check(self, num_steps: int) -> list[str]:
        """The problems of these settings in a training of `num_steps`."""
        problems = checks.errors_of(lambda: self.schedule(num_steps))
        if self.clip < 0 or not self.epsilon > 0:
            problems.append("optimizer.clip must be 0 or more and optimizer.epsilon positive")
        return problems

    def schedule(self, num_steps: int) -> Callable[[Any], jax.Array]:
        """The learning rate at each step of a training of `num_steps`."""
        decay, cosine = self.decay_steps or num_steps, self.decay == "cosine"
        return nerf.decayed_rate(
            self.learning_rate, self.final_rate, decay, self.delay_steps, self.delay_factor, cosine=cosine
        )


@dataclasses.dataclass(frozen=True)
class Config:
    """A neural radiance field."""

    seed: int = 0
    """random seed"""
    data: Data = Data()
    model: Model = Model()
    sampling: Sampling = Sampling()
    rays: Rays = Rays()
    optimizer: Optimizer = Optimizer()
    evaluation: Evaluation = Evaluation()
    train: training.Settings = training.Settings(num_steps=200_000, batch_size=4096)

    def check(self) -> list[str]:
        """The problems of the configuration that are known without the data."""
        steps = self.train.num_steps
        init = lambda key: nerf.init_params(key, self.model.build())
        return [
            *self.data.check(),
            *checks.errors_of(lambda: jax.eval_shape(init, jax.random.key(0))),
            *self.sampling.check(),
            *self.rays.check(steps),
            *self.optimizer.check(steps),
            *self.evaluation.check(),
        ]


PRESETS = {
    # Offline, two minutes on two cores.
    "quick": Config(
        data=Data(width=64, default_bounds=(nerf.analytic_scene.NEAR, nerf.analytic_scene.FAR)),
        model=Model(depth=4, width=64, skips=(), view_width=64, position_frequencies=6, direction_frequencies=2),
        sampling=Sampling(coarse=16, fine=32),
        # Without the warm-up the coarse field stayed empty for two of three seeds.
        optimizer=Optimizer(5e-3, 1e-4, "cosine", delay_steps=200, delay_factor=0.1),
        evaluation=Evaluation(preview_every=350, film_frames=20),
        # Larger batches with fewer steps reach a lower PSNR at the same cost.
        train=training.Settings(num_steps=1400, batch_size=128, log_every=100),
    ),
    # About an hour on two cores; --data.width 200 for four times the pixels.
    "blender_small": Config(
        data=Data("blender", width=100),
        model=Model(depth=6, width=128, skips=(3,), view_width=64, position_frequencies=8),
        sampling=Sampling(coarse=48, fine=64),
        rays=Rays(crop_steps=200),
        optimizer=Optimizer(2e-3, 5e-5, "cosine"),
        evaluation=Evaluation(preview_every=500),
        train=training.Settings(num_steps=7500, batch_size=512),
    ),
    # The authors' paper_configs/blender_config.txt. Their loss is a mean over the channels, ours a sum: three times
    # the gradient, and so three times epsilon. Scenes that go empty need --rays.crop-steps 500.
    "blender_paper": Config(
        data=Data("blender", test_every=1, pixel_center=0.0),
        sampling=Sampling(half_end_bins=True),
        rays=Rays(one_image=True),
        optimizer=Optimizer(decay_steps=500_000, epsilon=3e-7),
        evaluation=Evaluation(preview_every=10_000),
        train=training.Settings(num_steps=500_000, batch_size=1024, save_every=10_000, deterministic=True),
    ),
    # Their paper_configs/llff_config.txt.
    "llff_paper": Config(
        data=Data("llff", factor=4, background="none", pixel_center=0.0),
        sampling=Sampling(half_end_bins=True, noise_std=1.0),
        optimizer=Optimizer(decay_steps=250_000, epsilon=3e-7),
        evaluation=Evaluation(preview_every=10_000, film_frames=120),
        train=training.Settings(num_steps=200_000, batch_size=4096, save_every=10_000, deterministic=True),
    ),
}


def extendable_fields(config: Config) -> tuple[str, ...]:
    """A training may be resumed with more steps if the decay of its learning rate does not depend on their number."""
    return ("train.num_steps",) if config.optimizer.decay_steps else ()
