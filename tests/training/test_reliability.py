"""What the world does to a run: full and read-only disks, damaged files, clocks that jump. Nothing saved is lost."""

import contextlib
import dataclasses
import errno
import json
import os
import resource
import shutil
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxgen import data, training
from jaxgen.training import files, keys
from jaxgen.training.logs import Logs
from tests.training.engine_toy import BATCHES, Config, run_steps, state, update

pytestmark = pytest.mark.optimized

FULL = OSError(errno.ENOSPC, "No space left on device")


def train(path, **changes):
    config = Config()
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, **{"devices": 1, **changes}))
    with training.Run(path, config, experiment="toy", quiet=True) as run:
        return training.fit(
            run, config.train, update=update(), state=state(), batches=BATCHES, key=keys.root(config.seed)
        )


def restored(checkpoints, target):
    found = checkpoints.restore(target)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """(digest of the end, metrics.jsonl) of a run that nothing happened to."""
    path = tmp_path_factory.mktemp("straight")
    return training.tree_digest(train(path)), (path / "metrics.jsonl").read_bytes()


def ended(path, end):
    return training.tree_digest(end), (path / "metrics.jsonl").read_bytes()


@contextlib.contextmanager
def largest_file(num_bytes):
    """The system refuses to let a file grow beyond so many bytes: a full disk that needs no disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


# A full disk


def test_a_checkpoint_that_does_not_fit(tmp_path):
    noise = np.random.default_rng(0).normal(size=(200, 200))  # does not compress
    with training.Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(1, {"x": noise})
        checkpoints.wait()
        with largest_file(30_000):
            checkpoints.save(2, {"x": noise + 1})
            with pytest.raises(training.CannotWrite, match="last good checkpoint is step 1 in .*Free disk space"):
                checkpoints.wait()
        assert checkpoints.steps() == [1]
        np.testing.assert_array_equal(restored(checkpoints, {"x": noise})[1]["x"], noise)
        # Space was made: the same process goes on, and so would another.
        checkpoints.save(2, {"x": noise + 1})
        checkpoints.wait()
    with training.Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.steps() == [1, 2]
        np.testing.assert_array_equal(restored(checkpoints, {"x": noise})[1]["x"], noise + 1)
        checkpoints.save(3, {"x": noise})
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["1", "2", "3"]


def test_a_run_whose_disk_is_full_for_a_while(tmp_path, monkeypatch, straight):
    write = training.Checkpoints._write

    def full(self, step, arrays):
        if step == 8:
            raise FULL
        write(self, step, arrays)

    with monkeypatch.context() as patched:
        patched.setattr(training.Checkpoints, "_write", full)
        with pytest.raises(training.CannotWrite, match="No space left on device.*is step 4.*run the same command"):
            train(tmp_path)
    assert ended(tmp_path, train(tmp_path)) == straight


def test_a_log_that_does_not_fit(tmp_path, straight):
    """A line that is cut off in the middle is dropped, and the line comes again."""
    append = Logs._append

    def cut(self, name, line):
        if name == "metrics.jsonl" and line["step"] == 8:
            append(self, name, line)
            self._files[name].flush()
            os.truncate(tmp_path / name, (tmp_path / name).stat().st_size - 30)
            raise training.CannotWrite(name, FULL)
        append(self, name, line)

    with pytest.MonkeyPatch.context() as patched, pytest.raises(training.CannotWrite, match="No space left"):
        patched.setattr(Logs, "_append", cut)
        train(tmp_path)
    with pytest.warns(UserWarning, match="line 2 is damaged"):
        assert ended(tmp_path, train(tmp_path)) == straight
    assert not list(tmp_path.glob("*damaged*"))


def test_a_line_is_refused_by_the_system(tmp_path, monkeypatch):
    monkeypatch.setattr(Logs, "_tensorboard_writer", lambda self, stage, step: None)
    with Logs(tmp_path, quiet=True) as logs:
        logs.start("", 0, 10)
        # Longer lines than those of timing.jsonl.
        metrics = {f"loss_{i}": 0.123456789 for i in range(9)}
        with largest_file(500), pytest.raises(training.CannotWrite, match="metrics.jsonl: File too large.*Free disk"):
            for step in range(1, 9):
                logs.write("", step, 10, metrics)
    with Logs(tmp_path, quiet=True) as logs:
        # There was room again when the file was closed, so the line was completed.
        logs.rewind("", 1)
        logs.start("", 1, 10)
        logs.write("", 2, 10, {"loss": 0.5})
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [1, 2]


def test_a_small_file_stays_as_it_was(tmp_path):
    files.write_json(tmp_path / "measured.json", {"old": 1})
    with largest_file(50), pytest.raises(training.CannotWrite, match="measured.json: File too large"):
        files.write_json(tmp_path / "measured.json", {"new": "x" * 10_000})
    assert files.read_json(tmp_path / "measured.json") == {"old": 1}
    assert len(list(tmp_path.iterdir())) == 1


# A directory that cannot be written


@pytest.mark.parametrize("begun", [False, True])
def test_a_read_only_directory(begun):
    """Nothing is read-only to root, who becomes nobody for the while."""
    folder = Path(tempfile.mkdtemp(prefix="jaxgen-read-only-"))
    try:
        if begun:
            with training.Run(folder, Config(), experiment="toy", quiet=True):
                pass
        before = sorted(folder.iterdir())
        folder.chmod(0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            with pytest.raises(training.RunRefused, match="cannot write to .*ermission denied. Choose another"):
                training.Run(folder, Config(), experiment="toy", quiet=True)
        finally:
            if root:
                os.seteuid(0)
        assert sorted(folder.iterdir()) == before
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


# Damaged files


@pytest.mark.parametrize("damage", ["{not json", "42", '{"loss": 1.0}', '{"step": "8"}', "\x00\x00\x00"])
def test_a_damaged_line_in_the_middle_of_the_metrics(damage, tmp_path):
    """It cannot be computed again from a checkpoint behind it: the file is kept beside what is left of it."""
    path = tmp_path / "metrics.jsonl"
    lines = ['{"step": 4, "loss": 3.0}', damage, '{"step": 12, "loss": 1.0}', '{"step": 16, "loss": 0.5}']
    path.write_text("\n".join(lines) + "\n")
    with Logs(tmp_path, quiet=True) as logs, pytest.warns(UserWarning) as warned:
        logs.rewind("", 12)
    said = [str(w.message) for w in warned]
    assert len(said) == 2 and "metrics.jsonl, line 2 is damaged" in said[0]
    assert said[1].endswith(f"kept as {tmp_path / 'metrics.damaged-0.jsonl'}")
    assert path.read_text().splitlines() == [lines[0], lines[2]]
    assert (tmp_path / "metrics.damaged-0.jsonl").read_text().splitlines() == lines


def test_times_after_a_line_that_was_cut_off(tmp_path):
    path = tmp_path / "timing.jsonl"
    path.write_text('{"step": 4, "session": 1, "seconds": 2.0}\n{"step": 8, "sess')
    with pytest.warns(UserWarning, match="line 2 is damaged"), Logs(tmp_path, quiet=True) as logs:
        logs.start("", 4, 10)
        logs.write("", 6, 10, {"loss": 0.5})
        assert 2.0 <= logs.total_seconds() < 60
    whole = path.read_text().splitlines()
    assert len(whole) == 3 and json.loads(whole[2])["session"] == 2


@pytest.mark.filterwarnings("ignore:checkpoint of step 2")
@pytest.mark.parametrize("keep", [0.0, 0.9, None])
def test_every_file_of_a_checkpoint_cut_off_or_gone(keep, tmp_path):
    """Never wrong values, and the checkpoint before is still there."""
    tree = {"x": np.random.default_rng(0).normal(size=(50, 40)), "y": np.arange(3)}
    with training.Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(1, tree)
        checkpoints.save(2, {**tree, "y": np.arange(3) + 7})
        checkpoints.wait()
        newest = tmp_path / "c" / "2"
        shutil.copytree(newest, tmp_path / "whole")
        names = [p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*") if p.is_file()]
        assert len(names) > 5
        for name in names:
            victim = newest / name
            if keep is None:
                victim.unlink()
            else:
                os.truncate(victim, int(keep * victim.stat().st_size))
            step, found = restored(checkpoints, tree)
            np.testing.assert_array_equal(found["x"], tree["x"])
            np.testing.assert_array_equal(found["y"], np.arange(3) + (7 if step == 2 else 0))
            shutil.rmtree(newest, ignore_errors=True)
            shutil.copytree(tmp_path / "whole", newest)


@pytest.mark.parametrize("kept", ["npy", "images", "images on disk"])
def test_data_that_changed_between_two_sessions(kept, tmp_path):
    """One value of one image; sizes and times of files stay as they were. Then the data is copied elsewhere."""
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4), dtype=np.uint8)
    folder, said = tmp_path / "data", []
    (folder / "train").mkdir(parents=True)

    def write():
        if kept == "npy":
            np.save(folder / "train.npy", images)
        for i, image in enumerate(images if kept != "npy" else ()):
            Image.fromarray(image).save(folder / f"train/{i}.png", compress_level=0)
        for path in folder.rglob("*.*"):
            os.utime(path, (0, 0))
        return {path.name: path.stat().st_size for path in folder.rglob("*.*")}

    def session(folder, warns):
        name = kept.partition(" ")[0]
        if kept.endswith("disk"):
            found = data.stored(name, "train", folder).fingerprint
        else:
            found = data.fingerprint(data.load(name, "train", folder))
        with training.Run(tmp_path / "run", Config(), experiment="toy", quiet=True) as run:
            expect = pytest.warns(UserWarning, match=f"'{kept}' is not what this run began with.*not a continuation")
            with expect if warns else contextlib.nullcontext():
                run.record_dataset(kept, found)
        said.append(files.read_json(tmp_path / "run" / "environment.json")["data"])

    sizes = write()
    session(folder, warns=False)
    shutil.copytree(folder, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    images[7, 2, 1] ^= 1
    assert write() == sizes
    session(folder, warns=True)
    session(tmp_path / "elsewhere", warns=False)
    assert said[0] == said[1] == said[2]


# Clocks


def test_clocks_that_jump(tmp_path, monkeypatch, straight):
    """The clock of the day goes back a year and forth two, again and again; times are those that passed."""
    real, calls = time.time, []

    def jumping():
        calls.append(1)
        return real() + (-1, 2, 0)[len(calls) % 3] * 31_557_600

    monkeypatch.setattr(time, "time", jumping)
    assert ended(tmp_path, train(tmp_path)) == straight
    times = [json.loads(line) for line in (tmp_path / "timing.jsonl").read_text().splitlines()]
    assert all(0 <= t["seconds"] < 600 and t["steps_per_second"] > 0 for t in times)


def test_it_is_the_run_of_the_bare_steps(straight):
    """So that `straight` is one."""
    assert straight[0] == training.tree_digest(run_steps([12])[0])
