"""Evaluation of a trained field: held-out views against their images."""

import time
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.nerf import figures
from jaxgen import metrics, nerf, training


def render_held_out(render: nerf.RenderView, params: Any, scene: nerf.Scene, i: int) -> nerf.RenderOutput:
    """The rendering of one held-out view, through its lens."""
    views = scene.test
    return render(params, views.camera(i, scene.pixel_center), views.pose[i], views.lens(i))


def preview_callback(every: int, render: nerf.RenderView, scene: nerf.Scene, run: training.Run) -> training.Callback:
    """Measures PSNR of the first held-out view, and the seconds since the run began."""

    def measure_first(params: Any) -> dict[str, float]:
        output = render_held_out(render, params, scene, 0)
        psnr = _psnr(output.color, scene.test.rgb(0, scene.background), scene.test.mask_of(0))
        return {"psnr": psnr, "seconds": run.logs.total_seconds()}

    def preview(step: int, state: training.TrainState) -> None:
        if step % every == 0:
            run.cached("preview", lambda: measure_first(state.params), step=step)

    return every, preview


def measure(
    render: nerf.RenderView, params: Any, scene: nerf.Scene, run: training.Run, views: int, step: int
) -> dict[str, float]:
    """Means over the held-out views; each view's own values go to measured.json, its pictures to figures/."""
    number = min(views or len(scene.test.image), len(scene.test.image))
    view = lambda i: run.cached(
        "view", lambda: measure_view(render, params, scene, run, i), name=scene.test.name[i], step=step
    )
    rows = [view(i) for i in range(number)]
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0] if name != "seconds"}
    return means | {"views": number}


def measure_view(
    render: nerf.RenderView, params: Any, scene: nerf.Scene, run: training.Run, i: int
) -> dict[str, float]:
    """PSNR, SSIM and the time of one held-out view; on the embedded scene also the errors of depth and opacity."""
    truth, mask = scene.test.rgb(i, scene.background), scene.test.mask_of(i)
    start = time.perf_counter()
    output = render_held_out(render, params, scene, i)
    measured = {"psnr": _psnr(output.color, truth, mask), "seconds": time.perf_counter() - start}
    measured["psnr_coarse"] = _psnr(output.coarse_color, truth, mask)
    if min(truth.shape[:2]) >= 11:
        color = output.color if mask is None else np.where(mask[..., None], output.color, truth)
        measured["ssim"] = float(metrics.ssim(jnp.asarray(color), jnp.asarray(truth)))
    if scene.exact:
        camera, pose = scene.test.camera(i, scene.pixel_center), scene.test.pose[i]
        exact = nerf.analytic_scene.render_view(camera, pose, 0.0)
        opaque = exact.opacity > 0.99
        measured["depth_error"] = float(np.abs(output.depth - exact.depth)[opaque].mean())
        measured["opacity_error"] = float(np.abs(output.opacity - exact.opacity).mean())
    figures.draw_view(run.figures / f"view-{i}.png", truth, output, scene)
    return measured


def _psnr(image: np.ndarray, truth: np.ndarray, mask: np.ndarray | None) -> float:
    """Over the pixels of the mask."""
    if mask is not None:
        image, truth = image[mask], truth[mask]
    return float(metrics.psnr(jnp.asarray(image), jnp.asarray(truth)))
