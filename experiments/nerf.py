"""NeRF: Mildenhall et al. 2020 (notes 5), from images with poses to views that nobody took.

    python -m experiments.nerf quick
    python -m experiments.nerf blender_small --data.dir FOLDER

Measured on held-out views: PSNR and SSIM of the fine network's images (`psnr`, `ssim`; the coarse network's are
`psnr_coarse`), means over views. On the embedded scene also the error of depth, in world units, where the scene is
opaque. The run directory gets poses.txt, which says what looks wrong with the cameras, and a film.
"""

import dataclasses
import importlib.util
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from experiments import command, nerf_figures, nerf_rays, nerf_scenes, nerf_views
from jaxgen import nerf, training


@dataclasses.dataclass(frozen=True)
class Model:
    """The network; coarse and fine are two of the same shape."""

    depth: int = 8
    """hidden layers on the position"""
    width: int = 256
    """their width"""
    skips: tuple[int, ...] = (4,)
    """numbers of the layers (from 0) after which the position comes in again"""
    view_depth: int = 1
    """hidden layers that know the direction of view; the paper's text says 4, its runs had 1"""
    view_width: int = 128
    """their width"""
    view_dependent: bool = True
    """false: colour does not depend on the direction"""
    position_frequencies: int = 10
    """L of the position's encoding"""
    direction_frequencies: int = 4
    """L of the direction's encoding"""
    pi: bool = False
    """the paper's factor pi in the encoding, which its code leaves out"""
    density: Literal["relu", "softplus"] = "relu"
    """"softplus" is shifted by -1, and its gradient never dies"""
    rgb_padding: float = 0.0
    """colours reach so far beyond [0, 1], so that black and white have a gradient"""


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Where rays are asked."""

    coarse: int = 64
    """stratified samples"""
    fine: int = 128
    """more of them where the coarse network saw something; 0: no fine network"""
    in_disparity: bool = False
    """stratified in 1 / t"""
    half_end_bins: bool = False
    """the authors' bins, whose first and last are half as wide"""
    endless: bool = True
    """whether the last interval has no end"""
    noise_std: float = 0.0
    """standard deviation of noise on the density in training; the paper: 1 on photographs"""


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """Adam with a falling rate."""

    learning_rate: float = 5e-4
    """at the first step"""
    final_rate: float = 5e-5
    """after `decay_steps`"""
    decay: Literal["exponential", "cosine"] = "exponential"
    """how it falls; "exponential" as in the paper, "cosine" for short trainings"""
    decay_steps: int = 0
    """0: the steps of the training"""
    delay_steps: int = 0
    """steps in which the rate rises from delay_factor times its value, as in JaxNeRF (2500)"""
    delay_factor: float = 0.01
    """as above"""
    epsilon: float = 1e-7
    """of Adam"""
    clip: float = 0.0
    """largest gradient norm; 0: any"""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What is rendered."""

    views: int = 0
    """held-out views measured; 0: all"""
    preview_every: int = training.free(0)
    """steps after which the first held-out view is measured while training; 0: never"""
    film_frames: int = 40
    """frames of the turntable; 0: none"""
    chunk: int = training.free(0)
    """rays rendered at once; 0: what fits in a quarter of the device's free memory"""
    mesh_level: float = 0.0
    """density of the surface that is written as mesh.ply (10 to 50; needs scikit-image); 0: none"""
    mesh_resolution: int = 128
    """points along each edge of the box in which the surface is sought, [-1, 1] around what the cameras look at"""
    watch_step: int = 500
    """when a field that is empty everywhere stops the run; 0: never"""


@dataclasses.dataclass(frozen=True)
class Config:
    """A neural radiance field."""

    seed: int = 0
    """of everything random"""
    data: nerf_scenes.Data = nerf_scenes.Data()
    model: Model = Model()
    sampling: Sampling = Sampling()
    rays: nerf_rays.Order = nerf_rays.Order()
    optimizer: Optimizer = Optimizer()
    evaluation: Evaluation = Evaluation()
    train: training.Settings = training.Settings(num_steps=200_000, batch_size=4096)


PRESETS = {
    # Offline, two minutes on two cores.
    "quick": Config(
        data=nerf_scenes.Data(width=64, near=nerf.analytic_scene.NEAR, far=nerf.analytic_scene.FAR),
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
        data=nerf_scenes.Data("blender", width=100),
        model=Model(depth=6, width=128, skips=(3,), view_width=64, position_frequencies=8),
        sampling=Sampling(coarse=48, fine=64),
        rays=nerf_rays.Order(crop_steps=200),
        optimizer=Optimizer(2e-3, 5e-5, "cosine"),
        evaluation=Evaluation(preview_every=500),
        train=training.Settings(num_steps=7500, batch_size=512),
    ),
    # The authors' paper_configs/blender_config.txt. Their loss is a mean over the channels, ours a sum: three times
    # the gradient, and so three times epsilon. Scenes that go empty need --rays.crop-steps 500.
    "blender_paper": Config(
        data=nerf_scenes.Data("blender", test_every=1, pixel_center=0.0),
        sampling=Sampling(half_end_bins=True),
        rays=nerf_rays.Order(one_image=True),
        optimizer=Optimizer(decay_steps=500_000, epsilon=3e-7),
        evaluation=Evaluation(preview_every=10_000),
        train=training.Settings(num_steps=500_000, batch_size=1024, save_every=10_000, deterministic=True),
    ),
    # Their paper_configs/llff_config.txt.
    "llff_paper": Config(
        data=nerf_scenes.Data("llff", factor=4, background="none", pixel_center=0.0),
        sampling=Sampling(half_end_bins=True, noise_std=1.0),
        optimizer=Optimizer(decay_steps=250_000, epsilon=3e-7),
        evaluation=Evaluation(preview_every=10_000, film_frames=120),
        train=training.Settings(num_steps=200_000, batch_size=4096, save_every=10_000, deterministic=True),
    ),
}
# Mildenhall et al. (2020), tables 4 and 5, 800 x 800: PSNR and SSIM.
PAPER = {
    "chair": (33.00, 0.967), "drums": (25.01, 0.925), "ficus": (30.13, 0.964), "hotdog": (36.18, 0.974),
    "lego": (32.54, 0.961), "materials": (29.62, 0.949), "mic": (32.91, 0.980), "ship": (28.65, 0.856),
}  # fmt: skip
# Table 6, 1008 x 756.
PAPER_LLFF = {
    "room": (32.70, 0.948), "fern": (25.17, 0.792), "leaves": (20.92, 0.690), "fortress": (31.16, 0.881),
    "orchids": (20.36, 0.641), "flower": (27.40, 0.827), "trex": (26.80, 0.880), "horns": (27.45, 0.828),
}  # fmt: skip


def prepare(config: Config) -> nerf_scenes.Scene:
    """Refuses impossible settings and reads the images."""
    nerf_rays.check_order(config.rays, config.train.num_steps)
    jax.eval_shape(lambda key: init_params(config, key), jax.random.key(0))
    if config.sampling.coarse < 3 or config.sampling.fine < 0:
        raise ValueError("sampling.coarse must be at least 3 and sampling.fine 0 (no fine network) or more")
    for name in ("views", "preview_every", "film_frames", "chunk", "watch_step", "mesh_level"):
        if getattr(config.evaluation, name) < 0:
            raise ValueError(f"evaluation.{name} is {getattr(config.evaluation, name)}; it must be 0 or more")
    if config.evaluation.mesh_level and importlib.util.find_spec("skimage") is None:
        raise ValueError("evaluation.mesh_level needs scikit-image: pip install scikit-image, or set it to 0")
    optimizer(config)
    return nerf_scenes.load(config.data)


def build(model: Model) -> nerf.NeRF:
    """The network of a config."""
    return nerf.NeRF(
        depth=model.depth,
        width=model.width,
        skips=model.skips,
        view_depth=model.view_depth,
        view_width=model.view_width,
        view_dependent=model.view_dependent,
        position_frequencies=model.position_frequencies,
        direction_frequencies=model.direction_frequencies,
        pi=model.pi,
        density_activation=nn.relu if model.density == "relu" else nerf.shifted_softplus,
        rgb_padding=model.rgb_padding,
    )


def init_params(config: Config, key: jax.Array) -> dict:
    """{"coarse": tree, "fine": tree}, without "fine" where there is no such network."""
    network = build(config.model)
    names = ("coarse", "fine") if config.sampling.fine else ("coarse",)
    # Lazily: the layers are not compiled and run one by one.
    points, view = jax.ShapeDtypeStruct((1, 1, 3), jnp.float32), jax.ShapeDtypeStruct((1, 3), jnp.float32)
    return {
        name: network.lazy_init(key, points, view)["params"]
        for name, key in zip(names, jax.random.split(key, len(names)), strict=True)
    }


def optimizer(config: Config) -> optax.GradientTransformation:
    """Adam as the config says."""
    chosen = config.optimizer
    if chosen.clip < 0 or not chosen.epsilon > 0:
        raise ValueError("optimizer.clip must be 0 or more and optimizer.epsilon positive")
    rate = nerf.decayed_rate(
        chosen.learning_rate, chosen.final_rate, chosen.decay_steps or config.train.num_steps, chosen.delay_steps,
        chosen.delay_factor, cosine=chosen.decay == "cosine",
    )  # fmt: skip
    adam = optax.adam(rate, eps=chosen.epsilon)
    return optax.chain(optax.clip_by_global_norm(chosen.clip), adam) if chosen.clip else adam


def sampling_settings(sampling: Sampling, background: float | None) -> dict:
    """The config's settings of `nerf.render_rays`."""
    settings = {
        "num_coarse": sampling.coarse,
        "background": background,
        "in_disparity": sampling.in_disparity,
        "half_end_bins": sampling.half_end_bins,
        "endless": sampling.endless,
    }
    return settings | ({"num_fine": sampling.fine} if sampling.fine else {})


def train(config: Config, scene: nerf_scenes.Scene, run: training.Run) -> dict:
    run.note_data(config.data.name, scene.fingerprint)
    nerf_figures.describe_cameras(run, scene)
    key = training.keys.root(config.seed)
    network, settings = build(config.model), sampling_settings(config.sampling, scene.background)
    loss = nerf.nerf_loss(network, scene.near, scene.far, noise_std=config.sampling.noise_std, **settings)
    batches = nerf_rays.ray_batches(scene, config.train.batch_size, config.rays)
    params = init_params(config, training.keys.stream(key, "params"))
    adam = optimizer(config)
    see = nerf_views.viewer(network, scene, settings, config.evaluation.chunk)

    def preview(step, state):
        if step % config.evaluation.preview_every == 0:
            run.once(f"preview step {step}", lambda: nerf_views.preview(see, state.params, scene, run))

    also = [nerf_views.watch(config.evaluation.watch_step, loss, batches, key)] if config.evaluation.watch_step else []
    also += [training.Every(config.evaluation.preview_every, preview)] if config.evaluation.preview_every else []
    state = training.fit(
        run,
        config.train,
        update=training.update_from_objective(loss, adam),
        state=training.create_state(params, adam),
        batches=batches,
        key=key,
        also=also,
    )
    params = training.fetch(state.params)
    metrics = nerf_views.measure(see, params, scene, run, config.evaluation.views, config.train.num_steps)
    if config.evaluation.film_frames:
        nerf_views.film(see, params, scene, run, config.evaluation.film_frames, config.train.num_steps)
    if config.evaluation.mesh_level:
        chosen = config.evaluation
        nerf_views.write_mesh(network, params, scene, run, chosen.mesh_level, chosen.mesh_resolution)
    nerf_figures.draw_progress(run)
    return run.finish(step=config.train.num_steps, params=params, metrics=metrics, paper=paper_values(config, metrics))


def drawing(config: Config, scene: nerf_scenes.Scene):
    """(params, keys [n], numbers [n]) -> pixels of the first held-out view, for `training.ParallelDraw`."""
    settings = sampling_settings(config.sampling, scene.background)
    return nerf_views.pixels(nerf_views.renderer(build(config.model), scene, settings), scene, 0)


def paper_values(config: Config, metrics: dict) -> dict[str, float]:
    """The paper's values of this scene at its size; its means are over all 200 test views."""
    chosen = config.data
    table = {"blender": PAPER, "llff": PAPER_LLFF}.get(chosen.name, {})
    row = table.get(Path(chosen.dir).name)
    full = {"blender": chosen.factor == 1 and chosen.width in (0, 800), "llff": chosen.factor == 4 and not chosen.width}
    if row is None or not full[chosen.name]:
        return {}
    return {name: value for name, value in zip(("psnr", "ssim"), row, strict=True) if name in metrics}


def may_grow(config: Config) -> tuple[str, ...]:
    """The training may be prolonged where the rate's fall does not depend on its length."""
    return ("train.num_steps",) if config.optimizer.decay_steps else ()


if __name__ == "__main__":
    command.main("nerf", PRESETS, prepare, train, __doc__ or "", may_grow=may_grow)
