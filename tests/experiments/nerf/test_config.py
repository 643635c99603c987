"""Configurations of the NeRF experiment: presets, what is refused, and records of 0.1.0."""

import copy
import dataclasses
import json

import jax
import pytest

from experiments import nerf as experiment
from experiments.nerf.config import Config, Data, Optimizer, Sampling
from experiments.nerf.train import paper_values
from jaxgen import nerf, training

PRESETS = experiment.PRESETS


def test_every_preset_is_watched_and_the_papers_are_whole():
    assert all(0 < config.evaluation.watch_step <= 500 for config in PRESETS.values())
    papers = {name: config for name, config in PRESETS.items() if name.endswith("paper")}
    for config in papers.values():
        assert config.train.deterministic
        network = config.model.build()
        params = jax.eval_shape(lambda network=network: nerf.init_params(jax.random.key(0), network))
        assert {sum(x.size for x in jax.tree.leaves(params[name])) for name in ("coarse", "fine")} == {595_844}
        assert (config.sampling.coarse, config.sampling.fine) == (64, 128)
    assert papers.keys() == {"blender_paper", "llff_paper"}
    assert [papers[name].train.batch_size for name in ("blender_paper", "llff_paper")] == [1024, 4096]
    assert papers["llff_paper"].sampling.noise_std == 1 and papers["llff_paper"].data.ndc


def test_a_training_is_made_longer_only_where_the_rate_does_not_depend_on_its_length():
    assert experiment.extendable_fields(PRESETS["blender_paper"]) == ("train.num_steps",)
    assert not experiment.extendable_fields(PRESETS["quick"])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--data.near", "6", "--data.far", "2"], "data.near is 6.0 and data.far 2.0"),
        (["--data.near", "nan"], "data.near is nan"),
        (["--data.scale", "-1"], "data.scale is -1"),
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


def test_all_problems_are_named_at_once():
    config = Config(data=Data(near=6.0, far=2.0), sampling=Sampling(coarse=2), optimizer=Optimizer(clip=-1.0))
    with pytest.raises(ValueError, match="data.width is 0") as refused:
        experiment.validate_and_load(config)
    lines = str(refused.value).splitlines()
    for problem in (
        "data.width is 0",
        "data.near is 6.0 and data.far 2.0",
        "sampling.coarse must",
        "optimizer.clip must",
    ):
        assert sum(line.startswith(problem) for line in lines) == 1, lines


def test_the_papers_values_stand_beside_its_own_scene_only(tmp_path):
    paper = PRESETS["blender_paper"]
    at = lambda **settings: dataclasses.replace(paper, data=dataclasses.replace(paper.data, **settings))
    measured = {"psnr": 30.0, "ssim": 0.9}
    assert paper_values(at(dir=str(tmp_path / "lego")), measured) == {"psnr": 32.54, "ssim": 0.961}
    assert not paper_values(at(dir=str(tmp_path / "lego"), width=400), measured)
    assert not paper_values(at(dir=str(tmp_path / "mine")), measured)
    forward = PRESETS["llff_paper"]
    fern = dataclasses.replace(forward, data=dataclasses.replace(forward.data, dir="fern"))
    assert paper_values(fern, measured) == {"psnr": 25.17, "ssim": 0.792}


# config.json of jaxgen 0.1.0: python -m experiments.nerf llff_paper.
RECORDED = json.loads("""
{"experiment": "nerf", "preset": "llff_paper", "seed": 0, "config": {"seed": 0, "data": {"name": "llff", "dir": "",
"width": 0, "factor": 4, "every": 1, "test_every": 8, "skip_missing": false, "train_views": 40, "test_views": 4,
"near": 2.0, "far": 6.0, "ndc": true, "background": "none", "pixel_center": 0.0}, "model": {"depth": 8, "width": 256,
"skips": [4], "view_depth": 1, "view_width": 128, "view_dependent": true, "position_frequencies": 10,
"direction_frequencies": 4, "pi": false, "density": "relu", "rgb_padding": 0.0}, "sampling": {"coarse": 64,
"fine": 128, "in_disparity": false, "half_end_bins": true, "endless": true, "noise_std": 1.0},
"rays": {"one_image": false, "crop_steps": 0, "crop_fraction": 0.5}, "optimizer": {"learning_rate": 0.0005,
"final_rate": 5e-05, "decay": "exponential", "decay_steps": 250000, "delay_steps": 0, "delay_factor": 0.01,
"epsilon": 3e-07, "clip": 0.0}, "evaluation": {"views": 0, "preview_every": 10000, "film_frames": 120, "chunk": 0,
"mesh_level": 0.0, "mesh_resolution": 128, "watch_step": 500}, "train": {"num_steps": 200000, "batch_size": 4096,
"accumulate": 1, "exact_shards": 0, "log_every": 100, "save_every": 10000, "keep_checkpoints": 3, "steps_per_call": 0,
"prefetch": 0, "devices": 0, "model_devices": 1, "backend": "pmap", "deterministic": true}}}
""")


def resumed(folder, record, config):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(record))
    with training.Run(folder, config, experiment="nerf", preset="llff_paper", quiet=True):
        pass


def test_a_run_of_0_1_0_is_resumed(tmp_path):
    config = PRESETS["llff_paper"]
    resumed(tmp_path, RECORDED, config)
    assert training.from_dict(config, RECORDED["config"]) == config
    # Untracked fields may have any value; "endless" is read under its new name.
    record = copy.deepcopy(RECORDED)
    record["config"]["train"] |= {"model_devices": 4, "devices": 8, "log_every": 1}
    record["config"]["data"]["dir"] = "/elsewhere"
    record["config"]["evaluation"]["preview_every"] = 7
    record["config"]["sampling"]["endless"] = False
    finite = dataclasses.replace(config, sampling=dataclasses.replace(config.sampling, infinite_last_interval=False))
    resumed(tmp_path, record, finite)
    assert training.from_dict(config, record["config"]).sampling == finite.sampling


@pytest.mark.parametrize(
    "name, near, far, now, same",
    [
        ("llff", 2.0, 6.0, {}, True),
        ("llff", 1.0, 9.0, {}, True),  # 0.1.0 did not use them
        ("llff", 2.0, 6.0, {"near": 2.0}, False),
        ("blender", 2.0, 6.0, {}, True),
        ("blender", 2.0, 6.0, {"near": 2.0, "far": 6.0}, True),
        ("blender", 1.0, 6.0, {}, False),
        ("marbles", 2.6, 5.4, {"default_bounds": (2.6, 5.4)}, True),
        ("marbles", 2.0, 6.0, {"default_bounds": (2.6, 5.4)}, False),
        ("blender", 1.0, 6.0, {"near": 1.0}, True),
    ],
)
def test_near_and_far_of_0_1_0_have_their_meaning(name, near, far, now, same):
    recorded = RECORDED["config"]["data"] | {"name": name, "near": near, "far": far}
    config = Data(name, factor=4, background="none", pixel_center=0.0, **now)
    changed = training.config.differences(recorded, config)
    assert (not changed) == same, changed
    assert training.from_dict(Data(), training.config.to_dict(config)) == config


@pytest.mark.parametrize(
    ("part", "field", "value", "message"),
    [
        ("sampling", "endless", False, "sampling.infinite_last_interval: False -> True"),
        ("model", "depth", 4, "model.depth: 4 -> 8"),
        ("optimizer", "epsilon", 1e-7, "optimizer.epsilon: 1e-07 -> 3e-07"),
        ("train", "deterministic", False, "train.deterministic: False -> True"),
    ],
)
def test_a_run_of_0_1_0_with_another_setting_is_refused(part, field, value, message, tmp_path):
    record = copy.deepcopy(RECORDED)
    record["config"][part][field] = value
    with pytest.raises(training.RunRefused, match=message):
        resumed(tmp_path, record, PRESETS["llff_paper"])
