"""A short training in a process of its own."""

import multiprocessing
import os
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import jax

from experiments.verify import short_runs
from jaxgen import training

TIMEOUT = 900.0


class ForkedTraining:
    """A training in a process of its own, forked from one that has imported the libraries.

    Args:
        name: of the experiment.
        config: its reduced config.
        workdir: the run directory; the process writes its output to `<workdir>.log`.
        stages: number of trainings; 0: unknown.
        distributed: how the process joins others, as for `training.hosts.join`.
        jax_options: configuration of jax in the process.
        whole: evaluate and draw too.
        network: folder of a run: no training, but samples of its network are drawn into `workdir`.
    """

    def __init__(
        self,
        name: str,
        config: Any,
        workdir: Path,
        *,
        stages: int = 0,
        distributed: str = "",
        jax_options: dict[str, Any] | None = None,
        whole: bool = False,
        network: Path | None = None,
    ):
        forkserver = multiprocessing.get_context("forkserver")
        # The first training starts the server.
        forkserver.set_forkserver_preload(["orbax.checkpoint", f"experiments.{name}"])
        self._name, self._log = name, Path(f"{workdir}{distributed.rpartition(',')[2]}.log")
        self._connection, connection = forkserver.Pipe()
        if network is not None:
            do = partial(_sample, network, workdir)
        else:
            do = partial(_train, name, config, workdir, stages, whole)
        arguments = (do, distributed, jax_options or {}, self._log, connection)
        self._process = forkserver.Process(target=_run, args=arguments)
        self._process.start()
        connection.close()

    def wait_open(self) -> None:
        """Returns when the run directory is open, or the process has ended."""
        if not self._connection.poll(TIMEOUT):
            self.kill()
            raise ValueError(f"{self._name} did not open its run directory in {TIMEOUT:.0f} s")

    def kill_after(self, seconds: float) -> bool:
        """Kills the process after this time; False if it had ended before."""
        self._process.join(seconds)
        if not self._process.is_alive():
            return False
        self.kill()
        return True

    def kill(self) -> None:
        """Kills the process, where it has not ended."""
        self._process.kill()
        self._process.join()
        self._connection.close()

    def finish(self) -> None:
        """Waits for the end; raises ValueError where the process failed or took too long."""
        self._process.join(TIMEOUT)
        code = self._process.exitcode
        self.kill()
        if code != 0:
            output = self._log.read_text(errors="replace").strip().splitlines()
            raise ValueError(f"a process of {self._name} ended with exit code {code}: {' | '.join(output[-3:])}")


def _run(
    do: Callable[[Callable[[], None]], None],
    distributed: str,
    jax_options: dict[str, Any],
    log: Path,
    connection: Connection,
) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
    # Several processes may share a GPU.
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    for option, value in jax_options.items():
        jax.config.update(option, value)
    try:
        training.hosts.join(distributed)
        do(lambda: connection.send("open"))
    except Exception:
        traceback.print_exc()
        training.hosts.leave(2)


def _train(name: str, config: Any, workdir: Path, stages: int, whole: bool, opened: Callable[[], None]) -> None:
    trial = short_runs.prepare_trial(name, config)
    short_runs.train(trial, workdir, stages=stages, whole=whole, opened=opened)


def _sample(network: Path, workdir: Path, opened: Callable[[], None]) -> None:
    from experiments.sample_batches import commands

    workdir.mkdir(exist_ok=True)
    opened()
    settings = ["--num", "128", "--batch-size", "2", "--devices", "1", "--sampler.steps", "100"]
    commands.main(["sample", str(network), str(workdir / "samples.npz"), *settings])
