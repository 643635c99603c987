"""Training of a radiance field on the rays of a scene."""

from pathlib import Path

import optax

from experiments.command import checks
from experiments.nerf import diagnostics, drawing, evaluate, figures
from experiments.nerf.config import Config
from experiments.nerf.rays import ray_batches
from experiments.nerf.scenes import load
from jaxgen import nerf, training

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
        ValueError: all problems of the configuration, what reading the images refuses, or a film or mesh that the
            scene does not have.
    """
    checks.refuse(config.check())
    scene = load(config.data)
    drawing.refuse(config.evaluation, scene)
    return scene


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
