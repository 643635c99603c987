"""The NeRF experiment: which rays a step takes, what is measured, and how a collapse is told."""

import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import one_program
import pytest
import tour_check
from one_program import slow_tests_optimized, unoptimized  # noqa: F401 (fixtures)
from PIL import Image

from experiments import command, nerf, nerf_figures, nerf_rays, nerf_scenes, nerf_views, verify_runs, verify_samples
from jaxgen import metrics, training
from jaxgen import nerf as mathematics
from jaxgen.data import write_blender
from jaxgen.training.checkpoints import flatten

N, H, W = 3, 6, 8
FEW = [
    "--data.train-views", "3", "--data.test-views", "2", "--data.width", "12", "--model.depth", "2", "--model.width",
    "8", "--model.view-width", "8", "--sampling.coarse", "6", "--sampling.fine", "4", "--train.num-steps", "6",
    "--train.batch-size", "16", "--train.log-every", "3", "--evaluation.preview-every", "3",
    "--evaluation.film-frames", "3", "--evaluation.watch-step", "3", "--train.devices", "1",
    "--train.save-every", "3",
]  # fmt: skip


hemisphere = jax.jit(mathematics.hemisphere, static_argnums=(0, 1, 2, 3, 4))


@pytest.fixture
def few_programs(monkeypatch):
    """Most of what the experiment computes outside of its steps is one program, or NumPy."""
    one_program.networks(monkeypatch)
    monkeypatch.setattr(mathematics, "hemisphere", hemisphere)
    one_program.whole(monkeypatch, mathematics, "turntable", static=("num_frames", "radius", "elevation", "target"))
    one_program.whole(
        monkeypatch, mathematics, "spiral", static=("near", "far", "num_frames", "turns", "depth_rate")
    )  # fmt: skip
    one_program.whole(monkeypatch, metrics, "psnr", "ssim", static=("data_range",))
    one_program.whole(monkeypatch, nerf_scenes, "over", static=("background",))


@pytest.fixture(scope="module")
def scene():
    """Three views whose colours say which pixel they are; some pixels are half transparent."""
    image, row, column = np.meshgrid(np.arange(N), np.arange(H), np.arange(W), indexing="ij")
    alpha = np.where(column % 2, 255, 51)
    pixels = np.stack([80 * image, 40 * row, 30 * column, alpha], axis=-1).astype(np.uint8)
    poses = np.asarray(hemisphere(N), np.float32)
    intrinsics = np.array([[9, 10, 4, 3], [11, 12, 4.5, 2.5], [13, 14, 4, 3]], np.float32)
    views = nerf_scenes.Views(pixels, poses, intrinsics, np.array(["a", "b", "c"]))
    return nerf_scenes.Scene(views, views, 2.0, 6.0, None, 0.5, "", (2.0, 6.0))


def steps(scene, batch_size, order, which):
    """(image, row, column) [steps, batch] of the rays of some steps, read from their colours, and the batches."""
    batches = nerf_rays.ray_batches(scene, batch_size, order)
    positions = np.arange(batch_size, dtype=np.int32)
    make = jax.jit(lambda arrays, step: batches.make(jax.random.key(3), arrays, step, positions))
    made = [jax.device_get(make(batches.arrays, np.int32(step))) for step in which]
    rgb = np.stack([np.rint(255 * batch["rgb"]) for batch in made]).astype(int)
    return np.moveaxis(rgb, -1, 0) // np.array([80, 40, 30])[:, None, None], made


def test_an_epoch_visits_every_ray_of_every_image_once(scene):
    found, _ = steps(scene, 36, nerf_rays.Order(), range(4))
    visits = np.stack([x.ravel() for x in found], axis=-1)
    assert len(visits) == N * H * W == len(np.unique(visits, axis=0))
    # No batch is of one image.
    assert all(len(np.unique(images)) == N for images in found[0])


def test_a_ray_is_that_of_its_pixel(scene):
    (image, row, column), [batch] = steps(scene, 36, nerf_rays.Order(), [1])
    ray_of = jax.jit(mathematics.camera_rays)
    for i in range(36):
        view = image[0, i]
        pixel = np.array([column[0, i], row[0, i]], np.int32)
        expected = ray_of(scene.train.camera(view, 0.5), scene.train.pose[view], pixel)
        for a, b in zip(batch["rays"], expected, strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-6)


def test_rays_go_through_the_lens(scene):
    """A photograph's pixel belongs to the ray that the lens bent to it."""
    lens = np.array([[0.1, 0, 0, 0.01], [0.2, -0.1, 0, 0], [0, 0, 0.02, 0]], np.float32)
    bent = dataclasses.replace(scene, train=dataclasses.replace(scene.train, distortion=lens))
    (image, _, _), [batch] = steps(bent, 36, nerf_rays.Order(), [1])
    _, [plain] = steps(scene, 36, nerf_rays.Order(), [1])
    undistort = jax.jit(mathematics.undistort_rays)
    for i in range(0, 36, 7):
        view = image[0, i]
        ray = jax.tree.map(lambda x, i=i: x[i], plain["rays"])
        expected = undistort(ray, scene.train.pose[view], lens[view])
        np.testing.assert_allclose(batch["rays"].direction[i], expected.direction, rtol=1e-5, atol=1e-6)
    assert np.abs(batch["rays"].direction - plain["rays"].direction).max() > 1e-3


def test_a_colmap_world_is_placed_around_the_origin():
    """Moved, turned and scaled as COLMAP likes: afterwards 4 away from the origin, with bounds in the same scale."""
    poses = np.asarray(hemisphere(6), np.float64)
    poses[:, :3, 3] = 10 * poses[:, :3, 3] + np.array([5, -7, 3])
    bounds = np.array([[30.0, 50.0]] * 6)
    train, test = ({"pose": poses[part], "bounds": bounds[part]} for part in (slice(0, 4), slice(4, 6)))
    nerf_scenes._place(train, test)
    np.testing.assert_allclose(np.concatenate([train["pose"], test["pose"]]), hemisphere(6), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(test["bounds"], [[3, 5]] * 2, rtol=1e-5)


def test_rays_of_one_image_and_of_its_middle(scene):
    order = nerf_rays.Order(one_image=True, crop_steps=3, crop_fraction=0.5)
    (image, row, column), _ = steps(scene, 12, order, range(6))
    assert all(len(set(view)) == 1 for view in image)
    assert sorted(image[:3, 0]) == sorted(image[3:, 0]) == [0, 1, 2]
    # The middle 3 x 4 pixels, each once; then anywhere, none twice.
    for r, c in zip(row[:3], column[:3], strict=True):
        assert sorted(zip(r, c, strict=True)) == [(i, j) for i in (1, 2, 3) for j in (2, 3, 4, 5)]
    for r, c in zip(row[3:], column[3:], strict=True):
        assert len(set(zip(r, c, strict=True))) == 12 and r.max() - r.min() > 2
    assert len(set(zip(row[3:].ravel(), column[3:].ravel(), strict=True))) > 20


def test_alpha_is_put_over_the_background():
    image = np.array([[200, 100, 0, 51]], np.uint8)
    white, black, none = jax.jit(lambda image: [nerf_scenes.over(image, b) for b in (1.0, 0.0, None)])(image)
    expected = np.array([[200, 100, 0]]) / 255 * 0.2
    np.testing.assert_allclose(white, expected + 0.8, rtol=1e-6)
    np.testing.assert_allclose(black, expected, rtol=1e-6)
    np.testing.assert_allclose(none, np.array([[200, 100, 0]]) / 255, rtol=1e-6)


def test_an_empty_field_stops_the_run_and_says_what_helps(scene, few_programs):
    """A network whose density is below zero everywhere: no gradient leads out."""
    config = dataclasses.replace(nerf.PRESETS["quick"], model=nerf.Model(depth=2, width=8, skips=(), view_width=8))
    scene = dataclasses.replace(scene, background=1.0)
    params = nerf.init_params(config, jax.random.key(0))
    for tree in params.values():
        tree["density"] = {"kernel": np.zeros((8, 1), np.float32), "bias": -np.ones(1, np.float32)}
    settings = nerf.sampling_settings(nerf.Sampling(coarse=4, fine=4), 1.0)
    loss = mathematics.nerf_loss(nerf.build(config.model), 2.0, 6.0, **settings)
    watch = nerf_views.watch(500, loss, nerf_rays.ray_batches(scene, 1024, nerf_rays.Order()), jax.random.key(1))
    state = training.create_state(params, nerf.optimizer(config))
    assert watch.steps == 500
    watch.action(400, state)
    with pytest.raises(nerf_views.Collapsed, match=r"step 500: the field is empty.*--rays.crop-steps.*softplus.*delay"):
        watch.action(500, state)
    # One that sees something is left alone, whatever its images look like.
    for tree in params.values():
        tree["density"] = {"kernel": np.zeros((8, 1), np.float32), "bias": np.ones(1, np.float32)}
    watch.action(500, training.create_state(params, nerf.optimizer(config)))


def test_a_good_image_of_nothing_is_no_collapse():
    rgb = np.ones((100, 3), np.float32)
    rgb[:2] = 0
    found = {"opacity": np.full(100, 0.001), "coarse_squared_error": np.full(100, 0.001)}
    nerf_views.check_collapse(500, found, rgb)
    with pytest.raises(nerf_views.Collapsed):
        nerf_views.check_collapse(500, found | {"coarse_squared_error": np.full(100, 0.02)}, rgb)


def test_a_fog_of_one_colour_is_told_and_a_scene_that_fills_the_image_is_not(capsys):
    rgb = np.linspace(0, 1, 300, dtype=np.float32).reshape(100, 3)
    found = {"opacity": np.ones(100), "coarse_squared_error": np.full(100, np.var(rgb, axis=0).mean())}
    nerf_views.check_collapse(500, found, rgb)
    said = capsys.readouterr().err
    assert "no better than one colour: mean opacity 1 over 100 training rays" in said and "Remedies" in said
    nerf_views.check_collapse(500, found | {"fine_squared_error": np.full(100, 0.05)}, rgb)
    assert not capsys.readouterr().err


def test_every_preset_is_watched_and_the_papers_are_whole():
    assert all(0 < config.evaluation.watch_step <= 500 for config in nerf.PRESETS.values())
    papers = {name: config for name, config in nerf.PRESETS.items() if name.endswith("paper")}
    for config in papers.values():
        assert config.train.deterministic
        params = jax.eval_shape(lambda config=config: nerf.init_params(config, jax.random.key(0)))
        assert {sum(x.size for x in jax.tree.leaves(params[name])) for name in ("coarse", "fine")} == {595_844}
        assert (config.sampling.coarse, config.sampling.fine) == (64, 128)
    assert papers.keys() == {"blender_paper", "llff_paper"}
    assert [papers[name].train.batch_size for name in ("blender_paper", "llff_paper")] == [1024, 4096]
    assert papers["llff_paper"].sampling.noise_std == 1 and papers["llff_paper"].data.ndc


@pytest.fixture
def call(monkeypatch, tmp_path):
    def run(*arguments, workdir=tmp_path / "run"):
        monkeypatch.setattr(sys, "argv", ["nerf", *arguments, "--workdir", str(workdir)])
        command.main("nerf", nerf.PRESETS, nerf.prepare, nerf.train, nerf.__doc__ or "", may_grow=nerf.may_grow)
        return workdir

    return run


def check_run(call, arguments):
    """A run leaves everything behind; after a kill, the same command trains the rest and renders nothing again."""
    workdir = call("quick", *arguments)
    results = json.loads((workdir / "results.json").read_text())
    assert {"psnr", "psnr_coarse", "ssim", "depth_error", "opacity_error"} <= results["metrics"].keys()
    assert results["metrics"]["views"] == 2 and results["paper"] == {}
    measured = json.loads((workdir / "measured.json").read_text())
    assert {"preview step 3", "preview step 6", "view marbles 1 step 6", "film of 3 frames, step 6"} <= measured.keys()
    psnr = [measured[f"view marbles {i} step 6"]["psnr"] for i in range(2)]
    assert results["metrics"]["psnr"] == pytest.approx(np.mean(psnr))
    names = {path.name for path in (workdir / "figures").iterdir()}
    assert {"view-0.png", "view-1.png", "cameras.png", "progress.png", "turntable.gif", "turntable-depth.gif"} <= names
    assert "3 cameras" in (workdir / "poses.txt").read_text()
    tour_check.finds_what_it_shows("nerf", workdir)
    (workdir / "figures" / "view-0.png").unlink()
    one_program.killed_after(3, workdir)
    call("quick", *arguments)
    assert not (workdir / "figures" / "view-0.png").exists()
    again = json.loads((workdir / "results.json").read_text())
    assert again == {**results, "seconds": again["seconds"]}
    return workdir


def test_a_small_run_leaves_everything_behind(call, few_programs):
    workdir = check_run(call, FEW)
    with pytest.raises(training.RunRefused, match="model.depth: 2 -> 4"):
        training.Run(workdir, nerf.PRESETS["quick"], experiment="nerf", quiet=True)


def test_a_training_is_made_longer_only_where_the_rate_does_not_depend_on_its_length():
    assert nerf.may_grow(nerf.PRESETS["blender_paper"]) == ("train.num_steps",)
    assert not nerf.may_grow(nerf.PRESETS["quick"])


@pytest.mark.slow
def test_a_short_run_leaves_everything_behind(call):
    check_run(call, FEW)


@pytest.fixture(scope="module")
def blender(tmp_path_factory):
    """A Blender folder of noise, without alpha in its test images."""
    folder = tmp_path_factory.mktemp("lego")
    poses = np.asarray(hemisphere(2))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 4), dtype=np.uint8)
    write_blender(folder, "train", pixels, poses, 0.7)
    write_blender(folder, "test", pixels[..., :3], poses, 0.7)
    return str(folder)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--data.near", "6", "--data.far", "2"], "data.near is 6.0 and data.far 2.0"),
        (["--data.background", "white"], "have no alpha to put it behind"),
        (["--data.background", "none", "--data.every", "2"], "one view to train on"),
        (["--data.dir", "nowhere"], "no folder nowhere"),
        (["--data.width", "9"], "cannot shrink to 9 x 9"),
        (["--rays.crop-steps", "999999"], "rays.crop_steps is 999999"),
        (["--rays.crop-fraction", "0"], "rays.crop_fraction is 0"),
        (["--model.skips", "9"], "skips are"),
        (["--sampling.coarse", "2"], "sampling.coarse must be at least 3"),
        (["--optimizer.final-rate", "0"], "must be positive"),
        (["--evaluation.chunk", "-1"], "evaluation.chunk is -1"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    call, capsys, blender, tmp_path, few_programs, arguments, message
):  # fmt: skip
    with pytest.raises(SystemExit) as stopped:
        call("blender_small", "--data.dir", blender, "--data.width", "0", "--data.test-every", "1", *arguments)
    assert stopped.value.code == 1 and message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_papers_values_stand_beside_its_own_scene_only(tmp_path):
    paper = nerf.PRESETS["blender_paper"]
    at = lambda **settings: dataclasses.replace(paper, data=dataclasses.replace(paper.data, **settings))
    measured = {"psnr": 30.0, "ssim": 0.9}
    assert nerf.paper_values(at(dir=str(tmp_path / "lego")), measured) == {"psnr": 32.54, "ssim": 0.961}
    assert not nerf.paper_values(at(dir=str(tmp_path / "lego"), width=400), measured)
    assert not nerf.paper_values(at(dir=str(tmp_path / "mine")), measured)
    forward = nerf.PRESETS["llff_paper"]
    fern = dataclasses.replace(forward, data=dataclasses.replace(forward.data, dir="fern"))
    assert nerf.paper_values(fern, measured) == {"psnr": 25.17, "ssim": 0.792}


def forward_facing(folder):
    """An LLFF folder of noise: nine cameras on a plane that look along -z."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for i in range(9):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(
            folder / f"images/{i}.png"
        )
        down, right, back = [0, -1, 0], [1, 0, 0], [0, 0, 1]
        pose = np.stack([down, right, back, [0.1 * (i % 3), 0.1 * (i // 3), 0.01 * i], [12, 16, 20]], axis=1)
        rows.append([*pose.ravel(), 2.0, 50.0])
    np.save(folder / "poses_bounds.npy", rows)
    return folder


def test_a_forward_facing_scene_is_sampled_in_ndc_and_filmed_on_a_spiral(tmp_path, few_programs):
    folder = forward_facing(tmp_path / "fern")
    scene = nerf.prepare(nerf.Config(data=nerf_scenes.Data("llff", str(folder), background="none")))
    assert (scene.near, scene.far, scene.ndc) == (0, 1, True) and scene.bounds == pytest.approx((1 / 0.75, 25 / 0.75))
    batches = nerf_rays.ray_batches(scene, 50, nerf_rays.Order())
    positions = np.arange(50, dtype=np.int32)
    make = jax.jit(lambda arrays: batches.make(jax.random.key(0), arrays, jnp.int32(0), positions))
    batch = make(batches.arrays)
    np.testing.assert_allclose(batch["rays"].origin[:, 2], -1)
    np.testing.assert_allclose(batch["rays"].direction[:, 2], 2)
    plain = nerf_scenes.load(nerf_scenes.Data("llff", str(folder), background="none", ndc=False))
    assert (plain.near, plain.far) == pytest.approx((0.9 / 0.75, 25 / 0.75))
    # The film and the report, with a field of nothing.
    blank = np.zeros((12, 16), np.float32)
    seen = nerf_views.Seen(np.zeros((12, 16, 3)), np.zeros((12, 16, 3)), blank, blank)
    cameras = []
    with training.Run(tmp_path / "run", nerf.PRESETS["llff_paper"], experiment="nerf", quiet=True) as run:
        nerf_figures.describe_cameras(run, scene)
        nerf_views.film(lambda params, camera, pose: cameras.append(pose) or seen, {}, scene, run, 3, 0)
    assert len(cameras) == 3 and (run.figures / "spiral.gif").exists()
    assert "facing" in (run.workdir / "poses.txt").read_text()


@pytest.mark.parametrize(("exact", "count"), [(8, 3), pytest.param(0, 4, marks=pytest.mark.slow)])
def test_pixels_one_by_one_are_those_of_the_view(exact, count, scene, monkeypatch, few_programs):
    """Alone, in chunks and on two devices: bit for bit with exact shards."""
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    config = dataclasses.replace(
        nerf.PRESETS["quick"],
        model=nerf.Model(depth=2, width=8, skips=(), view_width=8, position_frequencies=2),
        sampling=nerf.Sampling(coarse=6, fine=4),
    )
    params = nerf.init_params(config, jax.random.key(1))
    see = nerf_views.viewer(nerf.build(config.model), scene, nerf.sampling_settings(config.sampling, None), chunk=7)
    view = nerf_views.held_out(see, params, scene, 0)
    assert np.ptp(view.depth) > 0.1
    numbers = np.array([0, H // 2 * W - 1, H // 2 * W, H * W - 1, H * W])
    seen = training.ParallelDraw(nerf.drawing(config, scene), devices=jax.devices()[:2])(
        params, jax.random.key(0), numbers
    )
    for name, whole in view._asdict().items():
        flat = whole.reshape(H * W, *whole.shape[2:])
        expected = flat[[H // 2 * W, H * W - 1, 0, H // 2 * W - 1, H // 2 * W]]
        np.testing.assert_allclose(getattr(seen, name), expected, atol=2e-5, err_msg=name)
    end = verify_runs.End({f": {n}": x for n, x in flatten({"state": {"params": params}}).items()}, {}, b"")
    rows = list(verify_samples.rows(nerf, config, scene, end, exact))
    assert len(rows) == count and all(row.holds for row in rows)
    assert not exact or len({rows[0].digest, rows[2].digest}) == 1
