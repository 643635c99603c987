"""`python -m experiments` lists every command."""

import importlib
import tomllib
from pathlib import Path

from experiments.__main__ import FOLDER, GROUPS, first_line, listing
from experiments.command import cli


def test_every_command_is_listed_once_with_what_it_does():
    names = [name for group in GROUPS.values() for name in group]
    aliases = {"kills", "recorded", "feeding", "plan_memory", "sample_pack"}
    commands = {path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("__")} - aliases
    commands |= {path.parent.name for path in FOLDER.glob("*/__main__.py")}
    assert commands == {name for name in names if "." not in name} and len(set(names)) == len(names)
    assert all(Path(FOLDER, *name.split(".")).with_suffix(".py").is_file() for name in names if "." in name)
    lines = listing().splitlines()
    assert len(lines) < 24 and max(map(len, lines)) < 150
    for name in names:
        assert first_line(name) and any(line.split()[:1] == [name] and first_line(name) in line for line in lines)


def test_every_preset_is_described_in_help_and_docs():
    described = tomllib.loads((FOLDER / "presets.toml").read_text())
    experiments = next(iter(GROUPS.values()))
    presets = {name: importlib.import_module(f"experiments.{name}").PRESETS for name in experiments}
    assert {name: set(each) for name, each in described.items()} == {name: set(each) for name, each in presets.items()}
    assert cli.described_presets("verify") == ""
    table = (FOLDER.parent / "docs" / "experiments.md").read_text()
    for name, each in described.items():
        for preset, (what, time) in each.items():
            assert f"| `{name} {preset}` | {what} | {time} |\n" in table
            assert f"{what} ({time})\n" in cli.described_presets(name)
