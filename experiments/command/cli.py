"""The command line of every experiment: `python -m experiments.<name> <preset> [--any.field value]`."""

import contextlib
import dataclasses
import difflib
import os
import shutil
import sys
import tomllib
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from experiments.command import checks, compilation_cache, size, sweep
from jaxgen import training

Config = TypeVar("Config")
Prepared = TypeVar("Prepared")
Asked = TypeVar("Asked")


def main(
    name: str,
    presets: dict[str, Config],
    validate_and_load: Callable[[Config], Prepared],
    train: Callable[[Config, Prepared, training.Run], dict],
    description: str,
    *,
    extendable_fields: Callable[[Config], tuple[str, ...]] = lambda config: (),
) -> None:
    """Reads the command line, opens the run directory, trains, and shows the results; or does so for a sweep.

    Args:
        name: of the experiment.
        presets: configs by name; the command line overrides single fields.
        validate_and_load: `validate_and_load(config)` refuses impossible settings and reads the data, before anything
            is written.
        train: `train(config, prepared, run) -> results`, what `run.finish` returned. For a new run it is traced first
            up to its second training, with shapes alone, to estimate the memory.
        description: shown by --help.
        extendable_fields: `extendable_fields(config)`: dotted names of fields that may be larger when a run is resumed.
    """

    def prepare(workdir: Path, preset: str, config: Config, defer: bool = False):
        """(workdir -> the open run, run -> what is trained in it) of a config that was checked."""
        prepared, extendable = checked(config, validate_and_load, options.allow_large), extendable_fields(config)
        if not (options.allow_large or (workdir / "config.json").exists()):
            size.refuse_large(train, config, prepared, preset)
        named = {"experiment": name, "preset": preset, "extendable_fields": extendable, "defer": defer}
        return lambda workdir: training.Run(workdir, config, **named), lambda run: train(config, prepared, run)

    try:
        module, (fields, arguments) = f"experiments.{name}", sweep.take(sys.argv[1:])
        description = f"{description}\n\nSeveral settings, together where possible: --sweep field=a,b,c"
        preset, config, options = parse(module, presets, arguments, description, Options())
        configs = [
            (setting, parse(module, {preset: config}, [preset, *setting.flags], description, Options())[1])
            for setting in sweep.settings(config, fields)
        ]
        training.hosts.join(options.distributed)
        folder = f"runs/{name}-{preset}-seed{config.seed}" + ("-sweep" if fields else "")  # type: ignore[attr-defined]
        workdir = Path(options.workdir or folder)
        if fields:
            # All settings are checked before the first is trained.
            settings = [
                (setting, *prepare(workdir / setting.name, preset, config, defer=True)) for setting, config in configs
            ]
            results = sweep.run_all(workdir, settings)
        else:
            open_run, train_in = prepare(workdir, preset, config)
            with removed_if_refused(workdir), open_run(workdir) as run:
                results = [train_in(run)]
    except training.Interrupted as stopped:
        print(stopped.message, file=sys.stderr)
        sys.exit(stopped.code)
    except KeyboardInterrupt:
        print("Stopped outside of training; saved files are intact. Run the same command to resume.", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError, FloatingPointError, training.HostLost) as error:
        if os.environ.get("JAXGEN_TRACEBACK"):
            traceback.print_exc()
        else:
            print(f"{type(error).__name__}: {error}\n(JAXGEN_TRACEBACK=1 shows where)", file=sys.stderr)
        training.hosts.leave(1)
    except Exception:
        if not training.hosts.is_multihost():
            raise
        traceback.print_exc()
        training.hosts.leave(1)
    else:
        if training.hosts.is_primary():
            if fields:
                print(f"{sweep.table(results)}\nall in {workdir}; alone, a setting has the same parameters")
            else:
                show(results[0], workdir.absolute())


@contextlib.contextmanager
def removed_if_refused(workdir: Path):
    """Removes a new run directory where a ValueError comes before the first line of metrics."""
    is_new, lines = not workdir.exists(), workdir / "metrics.jsonl"
    try:
        yield
    except ValueError:
        if is_new and not (lines.exists() and lines.stat().st_size):
            shutil.rmtree(workdir, ignore_errors=True)
        raise


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of every experiment besides its config."""

    workdir: str = ""
    """run directory; empty: runs/<name>-<preset>-seed<seed>, with -sweep behind it for a sweep"""
    allow_large: bool = False
    """train also where the estimate of the memory exceeds what this machine has"""
    distributed: str = ""
    """several hosts: "auto" under SLURM, Open MPI and on TPU pods, elsewhere host:port,processes,index"""


def parse(
    module: str,
    presets: dict[str, Any],
    arguments: Sequence[str],
    description: str,
    options: Asked,
) -> tuple[str, Any, Asked]:
    """(preset, config, options) of a command line `PRESET [--any.field value] [--option value]`.

    A preset or a field that does not exist ends the program with the name of the nearest that does.

    Args:
        module: what is run, for the help.
        presets: configs by name; the command line overrides single fields.
        arguments: the command line behind the module's name.
        description: shown by --help.
        options: a frozen dataclass with the options besides the config and their defaults.
    """
    preset, arguments = _preset(module, presets, list(arguments), description)
    chosen, kind = presets[preset], type(options)
    arguments = rename_flags({**training.old_names(chosen), **training.old_names(options)}, arguments)
    _check_options(chosen, options, arguments)

    @dataclasses.dataclass(frozen=True)
    class Command:
        config: Annotated[type(chosen), tyro.conf.arg(name="")]  # type: ignore[valid-type]
        options: Annotated[kind, tyro.conf.arg(name="")]  # type: ignore[valid-type]

    command: Any = tyro.cli(
        Command, args=arguments, default=Command(chosen, options), prog=f"python -m {module} {preset}",
        description=description,
    )  # fmt: skip
    return preset, command.config, command.options


def checked(config: Config, validate_and_load: Callable[[Config], Prepared], allow_large: bool = False) -> Prepared:
    """`validate_and_load(config)`, after the flags that are set before the devices are opened and the common checks."""
    checks.refuse(training.not_finite(config))
    if not allow_large:
        size.refuse_huge(config)
    settings: training.Settings = config.train  # type: ignore[attr-defined]
    if settings.deterministic:
        compilation_cache.make_deterministic()
    training.keys.root(config.seed)  # type: ignore[attr-defined]
    checks.refuse(checks.not_finite(config))
    check_split(settings)
    return validate_and_load(config)


def check_split(settings: training.Settings, batch_size: int = 0) -> None:
    """Refuses a batch (of the settings, or another of the same run) that the devices cannot share."""
    rows = training.data_parallel_size(len(training.pick_devices(settings.devices)), settings.model_parallel_size)
    training.check_split(batch_size or settings.batch_size, rows, settings.accumulate, settings.exact_shards)


def show(results: dict, workdir: Path) -> None:
    """Prints the measured values next to the paper's, and the paths of the pictures."""
    width = max(map(len, results["metrics"]), default=0)
    for metric, value in results["metrics"].items():
        paper = results["paper"].get(metric)
        print(f"{metric:{width}}  {value:10.5g}" + (f"   paper {paper:g}" if paper is not None else ""))
    print(f"parameters sha256 {results['params_sha256'][:16]}, {results['seconds']:.0f} s, all in {workdir}")
    for figure in sorted((workdir / "figures").glob("*.*")):
        print(f"  {figure}")


def _check_options(config: Any, options: Any, arguments: list[str]) -> None:
    """Ends the program at an option that does not exist, naming the nearest that does."""
    known = ["help", *_fields(options), *_fields(config)]
    for argument in arguments:
        name = argument.removeprefix("--").partition("=")[0].replace("_", "-")
        if argument.startswith("--") and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
            print(f"no option {argument!r}; the nearest is '--{near}'. --help lists all", file=sys.stderr)
            sys.exit(2)


def rename_flags(names: dict[str, str], arguments: list[str]) -> list[str]:
    """The arguments, with flags that name a field by an old name under its present name ({old: present})."""
    flag = lambda name, no="": "--" + "".join(name.rpartition(".")[:2]) + no + name.rpartition(".")[2].replace("_", "-")
    flags = {flag(old, no): flag(new, no) for old, new in names.items() for no in ("", "no-")}

    def now(argument):
        name, equals, value = argument.partition("=")
        return flags.get(name.replace("_", "-"), name) + equals + value if argument.startswith("--") else argument

    return [now(argument) for argument in arguments]


def _fields(config: Any, prefix: str = ""):
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            yield from _fields(value, f"{prefix}{name}.")
        else:
            yield prefix + name
            if isinstance(value, bool):
                yield f"{prefix}no-{name}"


def _preset(module: str, presets: dict, arguments: list[str], description: str) -> tuple[str, list[str]]:
    usage = f"usage: python -m {module} {{{','.join(presets)}}} [--any.field value] [--sweep field=a,b] [--workdir DIR]"
    if arguments and arguments[0] in presets:
        return arguments[0], arguments[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        listed = described_presets(module.removeprefix("experiments."))
        print(f"{usage}\n\n{description}\n\n{listed}The fields of a preset: python -m {module} PRESET --help")
        sys.exit(0 if arguments else 2)
    near = difflib.get_close_matches(arguments[0], presets, n=1, cutoff=0)[0]
    print(f"no preset {arguments[0]!r}; the nearest is {near!r}\n{usage}", file=sys.stderr)
    sys.exit(2)


def described_presets(name: str) -> str:
    """What each preset of an experiment trains and how long it takes, a line each; empty where none is described."""
    described = tomllib.loads((Path(__file__).parents[1] / "presets.toml").read_text(encoding="utf-8")).get(name, {})
    width = max(map(len, described), default=0)
    lines = [f"  {preset:{width}}  {what} ({time})\n" for preset, (what, time) in described.items()]
    return f"Presets (time; -: not measured):\n{''.join(lines)}\n" if lines else ""
