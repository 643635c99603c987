"""Run folders in trouble: damaged and odd files, a folder that is deleted during the run, and leftovers of kills."""

import contextlib
import json
import os
import shutil
import socket
import time
import warnings

import numpy as np
import pytest

from jaxgen import training
from jaxgen.files import run_records
from jaxgen.training.logs import Logs
from jaxgen.training.run_lock import Lock
from tests.damage import damaged_json
from tests.training.test_run import opened

FILES = ("config.json", "environment.json", "measured.json", "metrics.jsonl", "timing.jsonl")


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with every file of a run, and their texts."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    use(folder)
    return folder, {name: (folder / name).read_text() for name in FILES}


def use(folder):
    """What every run does with its folder."""
    with opened(folder) as run:
        run.record_dataset("toy", "abc")
        assert run.cached("bound", lambda: {"nats": 1.5, "bits": 2.0}, images=40) == {"nats": 1.5, "bits": 2.0}
        use_logs(run.logs)


def use_logs(logs):
    logs.rewind("", 8)
    logs.start("", 8, 100)
    logs.write("", 12, 100, {"loss": 0.5, "norm": 3.0})
    logs.write("late", 4, 100, {"loss": 0.25})
    assert logs.total_seconds() >= 0


def try_damaged(begun, name, seeds):
    """How many damaged copies of a file are refused."""
    (folder, texts), refused = begun, 0
    for seed in seeds:
        for other, text in texts.items():
            (folder / other).write_text(text)
        content = damaged_json(texts[name], seed)
        (folder / name).write_bytes(content)
        start = time.process_time()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if name.endswith(".jsonl"):
                    with Logs(folder, quiet=True) as logs:
                        use_logs(logs)
                    for copy in folder.glob("metrics.damaged-*"):
                        copy.unlink()
                else:
                    use(folder)
        except (ValueError, OSError) as error:
            refused += 1
            assert str(folder) in str(error), (seed, content[:200], error)
        except AssertionError:
            # Another number that is one, too: files of a run have no checksum.
            assert name == "measured.json", (seed, content[:200])
        except Exception as error:
            pytest.fail(f"{name}, seed {seed}: {type(error).__name__}: {error}: {content[:200]}")
        assert time.process_time() - start < 2
    return refused


@pytest.mark.parametrize("name", FILES)
def test_200_damaged_copies_of_each_file_go_on_or_are_refused_by_name(name, begun):
    refused = try_damaged(begun, name, range(200))
    # A damaged line of a log is left out.
    assert refused == 0 if name.endswith("l") else refused > 40


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_1000_damaged_copies_of_each_file_go_on_or_are_refused_by_name(name, begun):
    try_damaged(begun, name, range(1000, 2000))


def make_odd(path, kind):
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(path.parent):
            made.bind(path.name)
    else:
        path.symlink_to(kind)


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket", "/dev/zero", "/nowhere/at/all"])
def test_what_is_not_a_regular_file_is_refused_at_the_start(kind, tmp_path):
    use(tmp_path / "run")
    for name in (*run_records.FILES, ".lock"):
        path = tmp_path / "run" / name
        kept = path.read_bytes() if path.exists() else None
        path.unlink(missing_ok=True)
        make_odd(path, kind)
        with pytest.raises(ValueError, match=f"{name}|is not a regular file"):
            opened(tmp_path / "run")
        path.rmdir() if kind == "folder" else path.unlink()
        if kept is not None:
            path.write_bytes(kept)
    for name in run_records.FOLDERS:
        shutil.rmtree(tmp_path / "run" / name, ignore_errors=True)
        (tmp_path / "run" / name).write_text("")
        with pytest.raises(training.RunRefused, match=f"{name} is not a folder, which a run has there"):
            opened(tmp_path / "run")
        (tmp_path / "run" / name).unlink()
    use(tmp_path / "run")


def test_a_pipe_in_a_checkpoint_is_a_damaged_checkpoint(tmp_path):
    with training.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"w": np.ones(3)})
        checkpoints.save(2, {"w": np.full(3, 2.0)})
    one = next(path for path in (tmp_path / "2").rglob("*") if path.is_file())
    one.unlink()
    os.mkfifo(one)
    with training.Checkpoints(tmp_path) as checkpoints, pytest.warns(UserWarning, match="is not a regular file"):
        restored = checkpoints.restore({"w": np.zeros(3)})
    assert restored is not None
    step, tree = restored
    assert step == 1 and tree["w"].tolist() == [1, 1, 1]


def test_a_folder_that_is_deleted_ends_the_run_at_the_next_log_and_the_command_starts_again(tmp_path):
    message = (
        "run was deleted, moved or replaced, so the run has ended. If it was moved, move it back. Then run the same"
    )
    with opened(tmp_path / "run") as run, run.checkpoints() as checkpoints:
        run.logs.start("", 0, 100)
        run.logs.write("", 1, 100, {"loss": 1.0})
        checkpoints.save(1, {"w": np.ones(3)})
        checkpoints.wait()
        shutil.rmtree(tmp_path / "run")
        for ends in (
            lambda: run.logs.write("", 2, 100, {"loss": 1.0}),
            lambda: checkpoints.save(2, {"w": np.ones(3)}),
            lambda: run.cached("a", lambda: {"b": 1.0}),
            lambda: run.record_dataset("toy", "abc"),
            lambda: run.finish(step=2, params={}, metrics={}),
        ):
            with pytest.raises(training.FolderLostError, match=message):
                ends()
    assert not (tmp_path / "run").exists()
    use(tmp_path / "run")


def test_a_folder_that_is_deleted_during_a_save(tmp_path, monkeypatch):
    with opened(tmp_path / "run") as run, contextlib.suppress(training.FolderLostError):
        with run.checkpoints() as checkpoints:
            checkpoints.save(1, {"w": np.ones(3)})
            checkpoints.wait()
            manager = checkpoints._manager()
            save = manager.save

            def late(*arguments, **options):
                shutil.rmtree(tmp_path / "run")
                (tmp_path / "run" / "checkpoints" / "2").mkdir(parents=True)
                (tmp_path / "run" / "checkpoints" / "2" / "part").write_text("")
                return save(*arguments, **options)

            monkeypatch.setattr(manager, "save", late)
            checkpoints.save(2, {"w": np.ones(3)})
            with pytest.raises((training.FolderLostError, training.CannotWrite)):
                checkpoints.wait()
    with pytest.warns(
        UserWarning, match="held checkpoints without a config.json, as a run leaves whose folder is deleted"
    ):
        use(tmp_path / "run")
    assert (tmp_path / "run" / ".deleted-0" / "checkpoints").is_dir()
    with opened(tmp_path / "run") as run, run.checkpoints() as checkpoints:
        assert checkpoints.steps() == []


def test_a_run_does_not_write_into_the_folder_of_the_next_one(tmp_path):
    with opened(tmp_path / "run") as first:
        first.logs.start("", 0, 100)
        shutil.rmtree(tmp_path / "run")
        with opened(tmp_path / "run") as second:
            second.logs.start("", 0, 100)
            second.logs.write("", 1, 100, {"loss": 2.0})
            with pytest.raises(training.FolderLostError):
                first.logs.write("", 1, 100, {"loss": 1.0})
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text()) == {"step": 1, "loss": 2.0}


def test_a_folder_that_is_replaced_while_it_is_locked_is_locked_again(tmp_path, monkeypatch):
    import jaxgen.training.run_lock as run_lock

    folder = tmp_path / "run"
    folder.mkdir()
    real, calls = run_lock.fcntl.flock, []

    def flock(*arguments):
        calls.append(1)
        if len(calls) == 1:
            shutil.rmtree(folder)
        return real(*arguments)

    monkeypatch.setattr(run_lock.fcntl, "flock", flock)
    lock = Lock(folder)
    assert len(calls) == 2 and lock.is_in_place() and (folder / ".lock").exists()
    lock.close()
    lock.close()
    assert not lock.is_in_place()


def test_leftovers_of_killed_writes_are_removed(tmp_path):
    use(tmp_path / "run")
    with opened(tmp_path / "run") as run, run.checkpoints() as checkpoints:
        checkpoints.save(1, {"w": np.ones(3)})
    left = [tmp_path / "run" / f".{name}.abcd1234" for name in run_records.FILES]
    for path in left:
        path.write_text("{")
    other = tmp_path / "run" / ".config.json.mine"
    other.write_text("")
    half = tmp_path / "run" / "checkpoints" / "2.orbax-checkpoint-tmp"
    half.mkdir()
    (half / "part").write_text("")
    with opened(tmp_path / "run") as run, run.checkpoints() as checkpoints:
        assert not any(path.exists() for path in left) and other.exists()
        checkpoints.save(2, {"w": np.ones(3)})
        checkpoints.wait()
        assert not half.exists() and checkpoints.steps() == [1, 2]
