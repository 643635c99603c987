"""Views of a trained field: rendered in chunks, measured against held-out images, and watched while training."""

import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import films, nerf_figures, nerf_scenes
from jaxgen import metrics, nerf, training


class Seen(NamedTuple):
    """What a camera sees, arrays [H, W, ...].

    Attributes:
        color: of the fine network, or of the coarse one where there is no other.
        coarse_color: of the coarse network.
        depth: sum of w t, along the axis of view, not divided by the opacity.
        opacity: sum of w.
    """

    color: Any
    coarse_color: Any
    depth: Any
    opacity: Any


See = Callable[..., Seen]
"""(params, camera, pose [4, 4], distortion [4] of the lens or None) -> NumPy arrays."""


def renderer(network: nerf.NeRF, scene: nerf_scenes.Scene, settings: dict) -> Callable[[Any, nerf.Rays], Seen]:
    """((params, camera, pose [4, 4], distortion [4]), rays [N, 3]) -> what each ray sees, [N, ...]; nothing is random.

    Args:
        network: of both fields.
        scene: its bounds.
        settings: of `nerf.render_rays`.
    """
    distorted = scene.test.distortion is not None or scene.train.distortion is not None

    def render(of: Any, rays: nerf.Rays) -> Seen:
        params, camera, pose, distortion = of
        if distorted:
            rays = nerf.undistort_rays(rays, pose, distortion)
        if scene.ndc:
            rays = nerf.ndc_rays(rays, camera)
        fields = [nerf.network_field(network, params[name]) for name in ("coarse", "fine") if name in params]
        seen = nerf.render_rays(None, rays, scene.near, scene.far, *fields, **settings)
        return Seen(seen.best.color, seen.coarse.color, seen.best.depth, seen.best.opacity)

    return render


def viewer(network: nerf.NeRF, scene: nerf_scenes.Scene, settings: dict, chunk: int = 0) -> See:
    """Renders whole images, all of one size with one compilation.

    Args:
        network: of both fields.
        scene: its bounds.
        settings: of `nerf.render_rays`.
        chunk: rays at once; 0: from the device's memory. A pixel's bits depend on it, to rounding.
    """
    render = renderer(network, scene, settings)
    samples = settings["num_coarse"] + settings.get("num_fine", 0)
    at_once = chunk or nerf.rays_at_once(samples, network.width)

    def see(params: Any, camera: nerf.Camera, pose: Any, distortion: Any = None) -> Seen:
        lens = np.zeros(4, np.float32) if distortion is None else distortion
        return nerf.render_image(render, (params, camera, pose, lens), camera, pose, at_once)

    return see


def pixels(
    render: Callable[[Any, nerf.Rays], Seen], scene: nerf_scenes.Scene, i: int
) -> Callable[[Any, jax.Array, jax.Array], Seen]:
    """(params, keys [n], numbers [n]) -> what pixels of a held-out view see: a sampler for `training.ParallelDraw`.

    Pixels are counted along the rows, from the left end of the middle row on; after the last comes the first.

    Args:
        render: of `renderer`. It uses no keys.
        scene: the views.
        i: which of the held-out ones.
    """
    views, camera = scene.test, scene.test.camera(i, scene.pixel_center)
    lens = np.zeros(4, np.float32) if views.distortion is None else views.distortion[i]

    def draw(params: Any, keys: jax.Array, numbers: jax.Array) -> Seen:
        first, total = camera.height // 2 * camera.width, camera.height * camera.width
        pixel = (numbers.astype(jnp.int32) % total + first) % total
        chosen = jnp.stack([pixel % camera.width, pixel // camera.width], axis=-1)
        rays = nerf.camera_rays(camera, jnp.asarray(views.pose[i]), chosen)
        return render((params, camera, views.pose[i], lens), rays)

    return draw


def preview(see: See, params: Any, scene: nerf_scenes.Scene, run: training.Run) -> dict[str, float]:
    """PSNR of the first held-out view, and the seconds since the run began."""
    seen = held_out(see, params, scene, 0)
    return {"psnr": _psnr(seen.color, scene.test.rgb(0, scene.background)), "seconds": run.logs.total_seconds()}


def held_out(see: See, params: Any, scene: nerf_scenes.Scene, i: int) -> Seen:
    """The rendering of one held-out view, through its lens."""
    views = scene.test
    lens = None if views.distortion is None else views.distortion[i]
    return see(params, views.camera(i, scene.pixel_center), views.pose[i], lens)


def measure(
    see: See, params: Any, scene: nerf_scenes.Scene, run: training.Run, views: int, step: int
) -> dict[str, float]:
    """Means over the held-out views; each view's own values go to measured.json, its pictures to figures/."""
    number = min(views or len(scene.test.image), len(scene.test.image))
    rows = [
        run.once(f"view {scene.test.name[i]} step {step}", lambda i=i: measure_view(see, params, scene, run, i))
        for i in range(number)
    ]
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0] if name != "seconds"}
    return means | {"views": number}


def measure_view(see: See, params: Any, scene: nerf_scenes.Scene, run: training.Run, i: int) -> dict[str, float]:
    """PSNR, SSIM and the time of one held-out view; on the embedded scene also the errors of depth and opacity."""
    camera, pose = scene.test.camera(i, scene.pixel_center), scene.test.pose[i]
    truth = scene.test.rgb(i, scene.background)
    start = time.perf_counter()
    seen = held_out(see, params, scene, i)
    found = {"psnr": _psnr(seen.color, truth), "seconds": time.perf_counter() - start}
    found["psnr_coarse"] = _psnr(seen.coarse_color, truth)
    if min(truth.shape[:2]) >= 11:
        found["ssim"] = float(metrics.ssim(jnp.asarray(seen.color), jnp.asarray(truth)))
    if scene.exact:
        exact = nerf.analytic_scene.render_view(camera, pose, 0.0)
        opaque = exact.opacity > 0.99
        found["depth_error"] = float(np.abs(seen.depth - exact.depth)[opaque].mean())
        found["opacity_error"] = float(np.abs(seen.opacity - exact.opacity).mean())
    nerf_figures.draw_view(run.figures, f"view-{i}", truth, seen, scene.near, scene.far)
    return found


def film(
    see: See, params: Any, scene: nerf_scenes.Scene, run: training.Run, frames: int, step: int
) -> dict[str, float]:
    """A turntable around the point that the cameras look at; a spiral in front of a scene that they all face."""

    def make() -> dict[str, float]:
        report = nerf.describe_poses(scene.train.pose)
        camera = scene.train.camera(0, scene.pixel_center)
        if report.surrounding:
            name, poses = "turntable", nerf.turntable(frames, report.distance, 30.0, tuple(report.focus))
        else:
            name, poses = "spiral", nerf.spiral(jnp.asarray(scene.train.pose), *scene.bounds, num_frames=frames)
        start = time.perf_counter()
        seen = [see(params, camera, np.asarray(pose)) for pose in poses]
        seconds = time.perf_counter() - start
        pictures = [np.rint(255 * np.clip(s.color, 0, 1)).astype(np.uint8) for s in seen]
        depths = [nerf_figures.depth_picture(s.depth, s.opacity, scene.near, scene.far) for s in seen]
        films.save(run.figures / name, pictures)
        films.save(run.figures / f"{name}-depth", depths)
        return {"frames": frames, "seconds_per_frame": seconds / frames}

    return run.once(f"film of {frames} frames, step {step}", make)


def write_mesh(
    network: nerf.NeRF, params: Any, scene: nerf_scenes.Scene, run: training.Run, level: float, resolution: int
) -> None:
    """Writes mesh.ply: the surface of the finest network's density, coloured as it looks from straight outside."""
    name = "fine" if "fine" in params else "coarse"
    middle = nerf.describe_poses(scene.train.pose, *scene.bounds).focus
    if scene.ndc:
        raise ValueError("a mesh is of world coordinates: train with --data.no-ndc")
    field = nerf.network_field(network, params[name])
    low, high = middle - 1, middle + 1
    density = lambda points: field(points[:, None], jnp.zeros_like(points))[1][:, 0]
    surface = nerf.mesh.marching_cubes(nerf.mesh.density_grid(density, low, high, resolution), level, low, high)
    nerf.mesh.write_ply(run.workdir / "mesh.ply", surface, nerf.mesh.vertex_colors(field, surface))


class Collapsed(ValueError):
    """The field is empty everywhere, and its gradient is zero."""


REMEDIES = (
    "Remedies, in this order: --rays.crop-steps 500 (begin in the middle of the images, where the object is); "
    "--model.density softplus (its gradient never dies); --optimizer.delay-steps 2500, or half the learning rate; "
    "another --seed. If none helps, look at figures/cameras.png and poses.txt: rays may miss the scene (near, far, "
    "axes). --evaluation.watch-step 0 switches this check off."
)


def watch(step: int, loss: nerf.Loss, batches: training.DeviceBatches, key: jax.Array) -> training.Every:
    """Stops a run at `step` whose field is empty everywhere, and whose images are no better than the background.

    Raises (in training):
        Collapsed: with the remedies.
    """
    measured = jax.jit(lambda params, batch, keys: loss(params, batch, keys, None)[1])

    def look(now: int, state: training.TrainState) -> None:
        if now != step:
            return
        positions = jnp.arange(1024, dtype=jnp.int32)
        order, draws = (training.keys.stream(key, name) for name in ("order", "eval"))
        batch = jax.jit(batches.make)(order, batches.arrays, jnp.int32(now), positions)
        keys = training.keys.per_example(training.keys.at_step(draws, now), positions)
        found = jax.device_get(measured(training.fetch(state.params), batch, keys))
        check_collapse(now, found, np.asarray(batch["rgb"]))

    return training.Every(step, look)


def check_collapse(step: int, found: dict[str, np.ndarray], rgb: np.ndarray) -> None:
    """Raises Collapsed where rays [B] have no opacity and their colours are as bad as one colour for all.

    Where they have opacity and are as bad, a fog before the cameras is likely: that is said, since it may still lift.

    Args:
        step: for the message.
        found: "opacity" and "fine_squared_error" (or the coarse one), [B] each.
        rgb: the images' colours, [B, 3].
    """
    error = float(np.mean(found.get("fine_squared_error", found["coarse_squared_error"])))
    opacity = float(np.mean(found["opacity"]))
    # The best that one colour can do.
    flat = float(np.mean(np.var(rgb, axis=0)))
    if error <= 0.98 * flat:
        return
    seen = (
        f"mean opacity {opacity:.2g} over {len(rgb)} training rays, PSNR {-10 * np.log10(error):.2f} dB, where one "
        f"colour for all pixels would have {-10 * np.log10(flat):.2f} dB."
    )
    if opacity < 0.01:
        raise Collapsed(
            f"step {step}: the field is empty: {seen} Its gradient is zero, so nothing will change. {REMEDIES}"
        )
    print(
        f"step {step}: the field is no better than one colour: {seen} If the PSNR of the next lines stays there, stop. "
        f"{REMEDIES}",
        file=sys.stderr,
        flush=True,
    )


def _psnr(image: np.ndarray, truth: np.ndarray) -> float:
    return float(metrics.psnr(jnp.asarray(image), jnp.asarray(truth)))
