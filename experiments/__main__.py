"""Lists the commands: `python -m experiments`."""

import ast
from pathlib import Path

FOLDER = Path(__file__).parent
GROUPS = {
    "Experiments: python -m experiments.NAME PRESET, --help lists presets and fields": (
        "deep_autoencoder", "sparse_autoencoder", "contractive_autoencoder", "vae", "gan", "ddpm", "guided_diffusion",
        "nerf",
    ),
    "Tools: python -m experiments.NAME, --help": (
        "tour", "report", "sample_batches", "verify", "verify.crash_test", "verify.golden_runs", "benchmark",
        "benchmark.memory", "benchmark.throughput",
    ),
}  # fmt: skip


def first_line(name: str) -> str:
    """Of a command's docstring, without importing it."""
    path = FOLDER / name.replace(".", "/")
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n")[0]
    raise FileNotFoundError(f"there is no command {name} in {FOLDER}")


def listing() -> str:
    """All commands, one a line."""
    width = max(len(name) for names in GROUPS.values() for name in names)
    groups = [
        "\n".join([title, *(f"  {name:{width}}  {first_line(name)}" for name in names)])
        for title, names in GROUPS.items()
    ]
    return "\n\n".join(groups)


if __name__ == "__main__":
    print(listing())
