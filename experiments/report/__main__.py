"""A page about any run, or about several side by side, made from the files in their folders.

    python -m experiments.report runs/vae-quick-seed0
    python -m experiments.report runs/vae-quick-seed* --out seeds.html

One HTML file that needs nothing else: results compared with the paper's values, curves, pictures, time, config and
environment. Several runs also get a table of the fields in which their configs differ, and, where only the seed
differs, mean and standard deviation. The page of an unfinished run says so. Folders of jaxgen 0.1.0 are read too.
"""

import os
from pathlib import Path

import tyro

from experiments.command.run_folders import read_all
from experiments.command.terminal import errors_exit
from experiments.report import contents, pages


def main(workdirs: tyro.conf.Positional[tuple[Path, ...]], out: Path | None = None) -> None:
    """Makes the page.

    Args:
        workdirs: folders of runs
        out: the page; by default report.html in the run's folder, or in the folder that holds all the runs
    """
    with errors_exit():
        if not workdirs:
            raise ValueError("no run is named; give the --workdir of one or several")
        runs = read_all(workdirs)
        folder = runs[0].folder if len(runs) == 1 else Path(os.path.commonpath([run.folder.parent for run in runs]))
        path = out or folder / "report.html"
        pages.write(path, contents.report(runs))
        print(path)


if __name__ == "__main__":
    tyro.cli(main, prog="python -m experiments.report", description=__doc__)
