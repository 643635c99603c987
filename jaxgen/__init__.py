"""jaxgen: the equations of five families of generative models, as pure functions in JAX and Flax."""

import importlib

from jaxgen import compiler

__version__ = "0.1.0"

# Before jax computes anything: XLA reads its flags once.
compiler.add_flag()

__all__ = [
    "__version__", "arguments", "autoencoder", "compiler", "data", "diffusion", "gan", "metrics", "nerf", "nn",  # pyright: ignore
    "pictures", "training", "vae", "weights",  # pyright: ignore
]  # fmt: skip


def __getattr__(name: str):
    """Loads a chapter or a room the first time it is named (PEP 562), so that `import jaxgen` stays light."""
    if name in __all__:
        return importlib.import_module(f"jaxgen.{name}")
    raise AttributeError(f"module 'jaxgen' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
