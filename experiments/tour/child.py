"""Runs a module as a program that ends when the tour ends, also by SIGKILL.

    python -m experiments.tour.child MODULE [argument ...]

Its standard input is a pipe from the tour, which the system closes when that has ended.
"""

import os
import runpy
import signal
import sys
import threading


def _end_with(pipe: int) -> None:
    while os.read(pipe, 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=_end_with, args=(sys.stdin.fileno(),), daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
