"""Training of a radiance field on the rays of a scene."""

from pathlib import Path

import jax.numpy as jnp
import optax

from experiments.command import checks
from experiments.nerf import diagnostics, drawing, evaluate, figures
from experiments.nerf.config import Config, Rays
from experiments.nerf.scenes import load
from jaxgen import data, nerf, training

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


def train(config: Config, scene: nerf.Scene, run: training.Run) -> dict:
    """Trains the field, measures and renders it; the results of `run.finish`."""
    run.record_dataset(config.data.name, scene.fingerprint)
    figures.describe_cameras(run, scene)
    key, evaluation, steps = training.keys.root(config.seed), config.evaluation, config.train.num_steps
    network, settings = config.model.build(), config.sampling.settings(scene.background)
    loss = nerf.nerf_loss(network, scene.near, scene.far, noise_std=config.sampling.noise_std, **settings)
    params = nerf.init_params(training.keys.stream(key, "params"), network, config.sampling.fine > 0)
    optimizer = build_optimizer(config)
    batches = ray_batches(scene, config.train.batch_size, config.rays)
    render = nerf.view_renderer(network, scene, settings, evaluation.chunk)
    callbacks = []
    if evaluation.watch_step:
        callbacks.append(diagnostics.callback(evaluation.watch_step, loss, batches, key))
    if evaluation.preview_every:
        callbacks.append(evaluate.preview_callback(evaluation.preview_every, render, scene, run))
    state = training.fit(
        run,
        config.train,
        update=training.update_from_objective(loss, optimizer),
        state=training.create_state(params, optimizer),
        batches=batches,
        key=key,
        callbacks=callbacks,
    )
    params = training.fetch(state.params)
    metrics = evaluate.measure(render, params, scene, run, evaluation.views, steps)
    if evaluation.film_frames:
        drawing.save_film(render, params, scene, run, evaluation, steps)
    if evaluation.mesh_level:
        drawing.write_mesh(network, params, scene, run, evaluation, steps)
    figures.draw_progress(run)
    return run.finish(step=steps, params=params, metrics=metrics, paper=paper_values(config, metrics))


def validate_and_load(config: Config) -> nerf.Scene:
    """The scene of a configuration.

    Raises:
        ValueError: all problems of the configuration, what reading the images refuses, a film or mesh that the scene
            does not have, or masks that leave nothing of the crop.
    """
    checks.refuse(config.check())
    scene = load(config.data)
    drawing.refuse(config.evaluation, scene)
    if config.rays.crop_steps:
        scene.train.usable_pixels(config.rays.crop_fraction)
    return scene


def ray_batches(scene: nerf.Scene, batch_size: int, settings: Rays) -> data.DeviceBatches:
    """{"rays": Rays [b, 3], "rgb": float32 [b, 3]}, made inside the step from images that stay on the device as bytes.

    Image and pixel are computed from (key, step, position). Every ray of every image is visited once before any is
    visited again (within the crop, while there is one).
    """
    views = scene.train
    _, height, width = shape = views.image.shape[:3]
    crop = max(1, int(height * settings.crop_fraction)), max(1, int(width * settings.crop_fraction))
    lists = {"all": views.usable_pixels()}
    if settings.crop_steps:
        lists["crop"] = views.usable_pixels(settings.crop_fraction)
    numbers = {name: of[0] for name, of in lists.items() if of is not None}

    def make(key, arrays, step, positions):
        def pixels(name):
            order = key, step, positions, batch_size, shape
            if (listed := lists[name]) is None:
                return data.shuffled_pixels(*order, crop if name == "crop" else None, one_image=settings.one_image)
            return data.listed_pixels(*order, arrays["pixels"][name], listed[1], one_image=settings.one_image)

        chosen = pixels("all")
        if settings.crop_steps:
            cropped = pixels("crop")
            chosen = tuple(jnp.where(step < settings.crop_steps, a, b) for a, b in zip(cropped, chosen, strict=True))
        return scene.rays_of_pixels(arrays, *chosen)

    return data.DeviceBatches(make, {**views.arrays(), **({"pixels": numbers} if numbers else {})}, batch_size)


def build_optimizer(config: Config) -> optax.GradientTransformation:
    """Adam with the configuration's schedule."""
    adam = optax.adam(config.optimizer.schedule(config.train.num_steps), eps=config.optimizer.epsilon)
    clip = config.optimizer.clip
    return optax.chain(optax.clip_by_global_norm(clip), adam) if clip else adam


def make_sample_fn(config: Config, scene: nerf.Scene):
    """(params, keys [n], numbers [n]) -> pixels of the first held-out view, for `training.ParallelSampler`."""
    renderer = nerf.ray_renderer(config.model.build(), scene, config.sampling.settings(scene.background))
    return nerf.pixel_sampler(renderer, scene, 0)


def paper_values(config: Config, metrics: dict) -> dict[str, float]:
    """The paper's values of this scene at its size; its means are over all 200 test views."""
    chosen = config.data
    table = {"blender": PAPER, "llff": PAPER_LLFF}.get(chosen.name, {})
    row = table.get(Path(chosen.dir).name)
    full = {"blender": chosen.factor == 1 and chosen.width in (0, 800), "llff": chosen.factor == 4 and not chosen.width}
    if row is None or not full[chosen.name]:
        return {}
    return {name: value for name, value in zip(("psnr", "ssim"), row, strict=True) if name in metrics}
