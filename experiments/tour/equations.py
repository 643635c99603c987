"""The equations that the tour and the reference pages show, from equations.toml."""

import tomllib
from pathlib import Path

FILE = Path(__file__).with_name("equations.toml")


def read() -> dict[str, str]:
    """{"package.function": TeX}."""
    packages = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return {f"{package}.{name}": tex for package, named in packages.items() for name, tex in named.items()}
