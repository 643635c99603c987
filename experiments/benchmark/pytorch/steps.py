"""A loop of training or drawing in PyTorch."""

from collections.abc import Callable
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from experiments.benchmark.steps import TorchSteps


def images(batch_size: int, device: str, shape: tuple[int, ...] = (784,)) -> Callable[[], Any]:
    """Draws batches [batch_size, *shape] in [0, 1] from 10,000 random images of bytes."""
    pictures = torch.randint(0, 256, (10_000, *shape), dtype=torch.uint8, device=device)
    return lambda: pictures[torch.randint(0, len(pictures), (batch_size,), device=device)].float() / 255


def repeated(step: Callable[[], Any]) -> Callable[[int], None]:
    """Runs a step so many times and waits for the device."""

    def run(number: int) -> None:
        for _ in range(number):
            step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return run


def descent(
    modules: Any, optimizer: Any, loss: Callable[[], Any], sample: Callable[[], Any] | None = None
) -> TorchSteps:
    """Steps of an optimizer down the gradient of `loss()`; `sample()` draws a batch, without gradients.

    Args:
        modules: all that is trained.
        optimizer: of its parameters.
        loss: a scalar of a fresh batch.
        sample: one step of drawing.
    """

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    draw = None if sample is None else repeated(torch.no_grad()(sample))
    return TorchSteps(sum(p.numel() for p in modules.parameters()), repeated(step), draw)
