"""An experiment's data and settings are checked against each other before anything is written."""

import dataclasses
import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import ddpm, gan, guided_diffusion, sparse_autoencoder, vae
from experiments.command import checks, cli, image_data
from experiments.ddpm.config import Evaluation
from experiments.gan.data import Images
from experiments.sample_batches import commands
from jaxgen import data, training
from tests.experiments.guided_diffusion import toys

ROOT = Path(__file__).resolve().parents[3]
NPY = {"data.name": "npy"}


def pixels(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_npy(folder, train, test, train_labels=None, test_labels=None):
    for name, array in {
        "train": train, "test": test, "train_labels": train_labels, "test_labels": test_labels,
    }.items():  # fmt: skip
        if array is not None:
            np.save(folder / f"{name}.npy", array)
    return str(folder)


def flat(folder, name="npy", **options):
    return image_data.FlatImageData(name, str(folder), **options)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """60 colour photographs of two sizes, in one folder and in two classes."""
    root = tmp_path_factory.mktemp("photographs")
    for i in range(60):
        picture = Image.fromarray(pixels(i, 20 + 8 * (i % 2), 24, 3))
        for path in (root / f"FOLDER/{i:02}.jpg", root / f"CLASSES/{'ab'[i % 2]}/{i:02}.jpg"):
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
    return root


COMMANDS = re.findall(
    r"^python -m experiments\.(.*(?:FOLDER|CLASSES).*)$", (ROOT / "docs/data.md").read_text(), re.MULTILINE
)
COMMANDS = [command for command in COMMANDS if not command.startswith("sample_batches")]


def parsed(command, photographs):
    """(module, preset, config) of a command in the documentation."""
    name, *arguments = shlex.split(command)
    module = importlib.import_module(f"experiments.{name}")
    arguments = [str(photographs / a) if a in ("FOLDER", "CLASSES") else a for a in arguments]
    preset, config, _ = cli.parse(f"experiments.{name}", module.PRESETS, arguments, "", cli.Options())
    return module, preset, config


@pytest.mark.parametrize("command", COMMANDS)
def test_the_documented_commands_fit_sixty_photographs(command, photographs, capsys, monkeypatch):
    toys.make_networks_small(monkeypatch)
    module, _, config = parsed(command, photographs)
    prepared = module.validate_and_load(config)
    images = prepared.images if hasattr(prepared, "images") else prepared
    train, test = (images.whole, images.test) if isinstance(images, Images) else images
    assert (len(train), len(test)) == (54, 6) and train.shape == test.shape and train.shape[2] == 3
    notes = capsys.readouterr().err
    if "ddpm" in command or "guided" in command:
        assert "evaluation.images is 20, and there are 6 test images: all are taken" in notes
    if "gan" in command:
        assert "evaluation.held_out is 10000, of 54 training images: 9 are held out" in notes
        assert len(images.validation) == 9 and len(images.train) == 45


SMALL = {
    "vae": "--model.widths 16 --evaluation.num-samples 5 --train.num-steps 4",
    "gan": "--model.channels 8 --evaluation.samples 20 --train.num-steps 4 --evaluation.select-every 0",
    "ddpm": "--train.num-steps 4 --network.channels 8 --process.steps 8 --evaluation.sampler.steps 4 "
    "--preview.steps logsnr3 --optimizer.warmup-steps 1 --evaluation.samples 12",
    "guided_diffusion": "--train.num-steps 4 --network.channels 8 --network.head-channels 8 --process.steps 8 "
    "--evaluation.sampler.steps 4 --evaluation.second.steps 4 --preview.steps logsnr3 --optimizer.warmup-steps 1 "
    "--evaluation.samples 12 --classifier.optimizer.warmup-steps 1",
    "deep_autoencoder": "--model.widths 16 --train.num-steps 4 --optimizer.warmup-steps 1",
    "sparse_autoencoder": "--model.code-size 16 --model.k 3 --model.start-k 10 --train.num-steps 4",
    "contractive_autoencoder": "--model.code-size 16 --train.num-steps 4 --classifier-steps 4",
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_the_documented_commands_end(command, photographs, tmp_path):
    name = command.split()[0]
    small = re.sub(r" --train.num-steps \d+", "", command) + f" {SMALL[name]} --train.devices 1 --train.batch-size 8"
    small += " --classifier.num-steps 4 --classifier.batch-size 8" if "CLASSES" in command and "guided" in name else ""
    module, preset, config = parsed(small, photographs)
    prepared = cli.checked(config, module.validate_and_load)
    with training.Run(tmp_path / "run", config, experiment=name, preset=preset, quiet=True) as run:
        results = module.train(config, prepared, run)
    assert all(np.isfinite(value) for value in results["metrics"].values())
    assert (tmp_path / "run/results.json").exists()


@pytest.mark.parametrize(
    ("module", "preset", "expected"),
    [
        (vae, "quick", "data.name is 'digits', which is read from no folder.*--data.name {kind}"),
        (gan, "quick", "data.name is 'ring', which is read from no folder.*--data.name {kind} and the preset dcgan"),
        (ddpm, "quick", "data.name is 'digits'.*--data.name {kind}"),
        (guided_diffusion, "quick", "data.name is 'digits'.*--data.name {kind}"),
    ],
)
def test_a_folder_without_its_kind_is_refused_with_what_would_work(module, preset, expected, photographs, tmp_path):
    write_npy(tmp_path, pixels(0, 8, 4, 4), pixels(1, 4, 4, 4))
    (tmp_path / "nothing").mkdir()
    for folder, kind in {
        photographs / "FOLDER": "images",
        tmp_path: "npy",
        tmp_path / "nothing": "NAME, of mnist",
    }.items():
        config = module.PRESETS[preset]
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, dir=str(folder)))
        with pytest.raises(ValueError, match=expected.format(kind=kind).replace("mnist and", "mnist.*and")):
            module.validate_and_load(config)


def test_a_folder_of_another_kind_is_named(photographs):
    config = flat(photographs / "FOLDER", "mnist")
    with pytest.raises(FileNotFoundError, match="train-images.*The folder looks like --data.name images$"):
        image_data.load(config)


GREY = pixels(0, 12, 8, 8), pixels(1, 6, 8, 8)
CLASSES = np.arange(12) % 3, np.arange(6) % 3


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((GREY[0], pixels(1, 6, 10, 10)), r"shape \(8, 8, 1\) and test images \(10, 10, 1\)"),
        ((pixels(0, 12, 8, 8, 3), GREY[1]), r"shape \(8, 8, 3\) and test images \(8, 8, 1\)"),
        ((pixels(0, 12, 8, 8, 2), pixels(1, 6, 8, 8, 2)), "images have 2 channels"),
        ((pixels(0, 12, 8, 8, 4), pixels(1, 6, 8, 8, 4)), "images have 4 channels"),
        ((GREY[0], GREY[1][:1]), "the test split has a single image"),
        ((GREY[0][:1], GREY[1]), "the training split has a single image"),
    ],
)
def test_splits_that_do_not_fit(arrays, message, tmp_path):
    folder = write_npy(tmp_path, *arrays)
    for config in (flat(folder), image_data.ImageData("npy", folder)):
        with pytest.raises(ValueError, match=message):
            image_data.load(config)


def test_labels_must_agree_where_they_are_used(tmp_path):
    folder = write_npy(tmp_path, *GREY, CLASSES[0], CLASSES[1] + 1)
    assert image_data.load(flat(folder))[1].labels.max() == 3
    with pytest.raises(ValueError, match="test images have the labels 3, and no training image has"):
        image_data.load(flat(folder), labelled=True)
    config = dataclasses.replace(gan.PRESETS["conditional"], data=flat(folder))
    with pytest.raises(ValueError, match="labels 3, and no training image has"):
        gan.validate_and_load(config)
    guided = dataclasses.replace(guided_diffusion.PRESETS["quick"], data=image_data.ImageData("npy", folder))
    with pytest.raises(ValueError, match="labels go from 1 to 3, outside the 3 classes"):
        guided_diffusion.validate_and_load(guided)


def test_labels_of_one_split_alone_are_left_out(tmp_path, capsys):
    folder = write_npy(tmp_path, *GREY, CLASSES[0])
    train, test = image_data.load(flat(folder))
    assert train.label is None and test.label is None
    assert "only one of the splits has labels" in capsys.readouterr().err
    with pytest.raises(ValueError, match="the test split has no labels; expected the class of each image"):
        image_data.load(flat(folder), labelled=True)


def test_a_reference_needs_only_its_split(tmp_path, capsys):
    for i in range(3):
        path = tmp_path / f"images/val/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(i, 4, 4)).save(path)
    arguments = ["make-reference", str(tmp_path / "images"), str(tmp_path / "r.npz"), "--split"]
    commands.main([*arguments, "test"])
    with np.load(tmp_path / "r.npz") as file:
        assert sorted(file["arr_0"][..., 0].sum(axis=(1, 2))) == sorted(pixels(i, 4, 4).sum() for i in range(3))
    with pytest.raises(SystemExit):
        commands.main([*arguments, "train", "--overwrite"])
    assert "no folder train or training with images" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        commands.main([*arguments[:2], str(tmp_path / "r.pt"), "--split", "test", "--images", "-1"])
    assert "does not end with .npz\nimages is -1" in capsys.readouterr().err


def test_layout_and_shape_reach_the_reader(tmp_path):
    folder = write_npy(tmp_path, GREY[0].transpose(1, 2, 0), GREY[1].transpose(1, 2, 0))
    with pytest.raises(ValueError, match=r"may be HWN; set layout='HWN' \(--data.layout\)"):
        image_data.load(flat(folder))
    train, test = image_data.load(flat(folder, layout="HWN"))
    np.testing.assert_array_equal(train.image[..., 0], GREY[0])
    np.testing.assert_array_equal(test.image[..., 0], GREY[1])
    folder = write_npy(tmp_path, GREY[0].reshape(12, 64), GREY[1].reshape(6, 64))
    assert image_data.load(flat(folder, shape=(4, 16)))[0].shape == (4, 16, 1)


def test_colours_are_not_binarized(photographs):
    config = dataclasses.replace(vae.PRESETS["quick"], data=flat(photographs / "FOLDER", "images", size=8))
    for binarization in ("stochastic", "fixed"):
        with pytest.raises(ValueError, match=f"binarization is '{binarization}', and the images have colours.*grey"):
            vae.validate_and_load(dataclasses.replace(config, binarization=binarization))
    train, test = vae.validate_and_load(dataclasses.replace(config, binarization="grey"))
    assert train.shape == test.shape == (8, 8, 3) and len(np.unique(test.image)) > 50


def test_problems_of_settings_and_of_data_are_named_at_once(tmp_path):
    folder = write_npy(tmp_path, pixels(0, 12, 8, 8, 2), pixels(1, 6, 9, 8, 2))
    config = dataclasses.replace(vae.PRESETS["quick"], data=flat(folder), ema=1.0)
    with pytest.raises(ValueError, match=r"(?s)ema is 1.0.*shape \(8, 8, 2\) and test images \(9, 8, 2\)"):
        vae.validate_and_load(config)
    config = dataclasses.replace(gan.PRESETS["dcgan"], data=flat(tmp_path / "nowhere"), seeds=0)
    with pytest.raises(ValueError, match="(?s)seeds is 0.*no folder .*nowhere"):
        gan.validate_and_load(config)
    config = dataclasses.replace(vae.PRESETS["quick"], train_examples=2000, compared_latent_sizes=(2, 0))
    with pytest.raises(ValueError, match="(?s)latent_sizes is .*train_examples is 2000; the data has 1437"):
        vae.validate_and_load(config)
    sparse = dataclasses.replace(sparse_autoencoder.PRESETS["quick"], data=flat(folder), probe_l2=-1.0)
    with pytest.raises(ValueError, match="(?s)probe_l2 is -1.0.*shape .*has no labels at all"):
        sparse_autoencoder.validate_and_load(sparse)


def images(num, label=None):
    return data.Images(np.zeros((num, 8, 8, 1), np.uint8), label, "none")


def test_an_evaluation_takes_the_images_that_there_are(capsys):
    evaluation, classes = Evaluation(images=20, samples=50), np.arange(30) % 2
    labelled = images(30, classes), images(9, classes[:9])
    assert evaluation.fit_to_data(*labelled) == dataclasses.replace(evaluation, images=9)
    assert evaluation.fit_to_data(images(30), images(9)).samples == 0
    assert dataclasses.replace(evaluation, inception="file").fit_to_data(images(30), images(9)).samples == 50
    assert evaluation.fit_to_data(images(30, classes), images(3, classes[:3])).samples == 0
    assert evaluation.fit_to_data(images(30, 0 * classes), images(9, 0 * classes[:9])).samples == 0
    large = images(30, classes), images(25, classes[:25])
    assert evaluation.fit_to_data(*large) == evaluation
    evaluation.note_data(*large)
    assert not capsys.readouterr().err
    evaluation.note_data(images(30), images(9))
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 2 and "there are 9 test images" in notes[0] and "not compared" in notes[1]


def test_memorization_is_noted(capsys):
    for train, test in ((2.0, 3.9), (2.0, 1.0), (float("nan"), 1.0), (-3.0, -2.0)):
        checks.note_memorization(train, test, "the error", 54)
    assert not capsys.readouterr().err
    checks.note_memorization(2.0, 4.1, "the error", 54)
    checks.note_memorization(-5.0, -2.0, "the bound", 54)
    notes = capsys.readouterr().err
    assert notes.count("the 54 training images are memorized") == 2 and "the error is 2 on training" in notes


def test_numbers_must_be_finite():
    config = vae.PRESETS["quick"]
    assert not checks.not_finite(config)
    optimizer = dataclasses.replace(config.optimizer, learning_rate=float("nan"))
    objective = dataclasses.replace(config.objective, beta=float("inf"))
    found = checks.not_finite(dataclasses.replace(config, optimizer=optimizer, objective=objective))
    assert sorted(found) == [
        "objective.beta is inf; it must be finite", "optimizer.learning_rate is nan; it must be finite",
    ]  # fmt: skip


@pytest.mark.parametrize("steps", [0, 1])
def test_a_run_that_is_refused_leaves_no_folder(steps, monkeypatch, tmp_path, capsys):
    """One that has logged a step is kept."""
    workdir = tmp_path / "run"

    def train(config, prepared, run):
        if steps:
            (run.workdir / "metrics.jsonl").write_text('{"step": 1}\n')
        raise ValueError("refused late")

    monkeypatch.setattr("sys.argv", ["vae", "quick", "--workdir", str(workdir), "--train.devices", "1"])
    with pytest.raises(SystemExit):
        cli.main("vae", vae.PRESETS, lambda config: None, train, "")
    assert "refused late" in capsys.readouterr().err and workdir.exists() == bool(steps)


def test_held_out_images_replace_the_test_images():
    (train, test), (fewer, held_out) = (
        image_data.load(image_data.FlatImageData(held_out=number), labelled=True) for number in (0, 10)
    )
    np.testing.assert_array_equal(np.concatenate([fewer.image, held_out.image]), train.image)
    np.testing.assert_array_equal(np.concatenate([fewer.labels, held_out.labels]), train.labels)
    assert len(held_out) == 10 and len(test) > 10
    for number in (len(train), len(train) + 1):
        with pytest.raises(ValueError, match=f"data.held_out is {number}; of {len(train)} training images at least"):
            image_data.load(image_data.FlatImageData(held_out=number))


def test_only_measures_of_test_images_stand_beside_the_papers():
    assert image_data.FlatImageData("mnist").is_test_of("mnist")
    assert not image_data.FlatImageData("mnist", held_out=10).is_test_of("mnist")
    assert not image_data.FlatImageData("digits").is_test_of("mnist")
