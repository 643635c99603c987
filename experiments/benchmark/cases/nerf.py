"""NeRF at the paper's size and at the demonstrations'; drawing renders rays in the way of evaluation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmark.cases.autoencoder import random_bytes
from experiments.benchmark.steps import Case, Sampling, in_torch
from experiments.nerf import PRESETS
from experiments.nerf.config import Rays
from experiments.nerf.train import build_optimizer, ray_batches
from jaxgen import nerf, training

RENDERED = 1024
"""rays of one step of rendering"""


def cases() -> list[Case]:
    return [case(name, preset) for name, preset in (
        ("NeRF 8 x 256, 64 + 128 samples", "blender_paper"),
        ("NeRF 6 x 128, 48 + 64 samples", "blender_small"),
        ("NeRF 4 x 64, 16 + 32 samples", "quick"),
    )]  # fmt: skip


def case(name: str, preset: str) -> Case:
    """The preset's step on rays from all of 20 random images of 100 x 100."""
    config, scene = PRESETS[preset], noise()
    settings = config.sampling.settings(scene.background)
    network, adam = config.model.build(), build_optimizer(config)
    update = training.update_from_objective(nerf.nerf_loss(network, scene.near, scene.far, **settings), adam)
    batches = ray_batches(scene, config.train.batch_size, Rays())
    shown = ray_batches(scene, RENDERED, Rays())
    arrays = jax.tree.map(jnp.asarray, shown.arrays)

    def render(params, key, x):
        # Other rays at each step, as in an image.
        rays = shown.make(key, arrays, jnp.int32(0), jnp.arange(len(x), dtype=jnp.int32))["rays"]
        fields = [nerf.network_field(network, params[which]) for which in ("coarse", "fine")]
        return nerf.render_rays(None, rays, scene.near, scene.far, *fields, **settings).best.color

    init = lambda: training.create_state(nerf.init_params(jax.random.key(0), network), adam)
    sampling = Sampling(render, jnp.zeros((RENDERED, 3)))
    twin = in_torch("nerf.nerf", config.train.batch_size, RENDERED, config.model, config.sampling)
    return Case(name, config.train.batch_size, update, init, batches, sampling, twin)


@functools.cache
def noise() -> nerf.Scene:
    """Random images around the origin."""
    poses = np.asarray(nerf.hemisphere(20), np.float32)
    camera = nerf.Camera.from_angle(100, 100, nerf.analytic_scene.CAMERA_ANGLE_X)
    intrinsics = np.array([[camera.focal_x, camera.focal_y, 50, 50]] * 20, np.float32)
    views = nerf.Views(random_bytes((20, 100, 100, 4)), poses, intrinsics, np.array([""] * 20))
    return nerf.Scene(views, views, 2.0, 6.0, 1.0, 0.5, "random", (2.0, 6.0))
