"""How much noise each step adds: beta_t, in float64 NumPy, for `make_schedule`.

Every function takes the number of steps T and returns [T], entry t for the 0-based step t. Where ends are given by
default they are the published 1e-4 and 0.02 of T = 1000, times 1000 / T, so that the whole chain destroys the same
signal at any T (the rule of the code of Nichol & Dhariwal 2021). That leaves beta below 1 for T above 20.
"""

import math

import numpy as np

from jaxgen.arguments import Count, Real, takes
from jaxgen.arguments.values import array


@takes(num_steps=Count(), start=Real(), end=Real())
def linear_betas(num_steps: int, start: float | None = None, end: float | None = None) -> np.ndarray:
    """T equally spaced betas, both ends included (Ho et al. 2020, section 4: 1e-4 to 0.02 at T = 1000).

    Args:
        num_steps: T.
        start: beta of the first step; default 0.1 / T.
        end: beta of the last step; default 20 / T.

    Returns:
        [T], float64.

    Raises:
        ValueError: T below 1, or a beta outside (0, 1).
    """
    start, end = _ends(num_steps, start, end)
    return check_betas(np.linspace(start, end, num_steps))


@takes(num_steps=Count(), start=Real(), end=Real())
def quadratic_betas(num_steps: int, start: float | None = None, end: float | None = None) -> np.ndarray:
    """Betas whose square roots are equally spaced; arguments, result and errors as in `linear_betas`: [T], float64.

    One of the schedules that Ho et al. (2020) compared.
    """
    start, end = _ends(num_steps, start, end)
    return check_betas(np.linspace(start**0.5, end**0.5, num_steps) ** 2)


@takes(num_steps=Count(), beta=Real())
def constant_betas(num_steps: int, beta: float | None = None) -> np.ndarray:
    """The same beta at every step, by default 20 / T: [T], float64. Errors as in `linear_betas`."""
    _, beta = _ends(num_steps, None, beta)
    return check_betas(np.full(num_steps, beta))


@takes(num_steps=Count(), fraction=Real(), start=Real(), end=Real())
def warmup_betas(
    num_steps: int, fraction: float = 0.1, start: float | None = None, end: float | None = None
) -> np.ndarray:
    """Linear from `start` to `end` over the first floor(fraction T) steps, then constant at `end`: [T], float64.

    Ho et al.'s code has fractions 0.1 and 0.5.

    Args:
        num_steps: T.
        fraction: share of the steps that warms up, in [0, 1].
        start: as in `linear_betas`.
        end: as in `linear_betas`.

    Raises:
        ValueError: a fraction outside [0, 1], and as in `linear_betas`.
    """
    start, end = _ends(num_steps, start, end)
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction is {fraction}; expected a share of the steps, in [0, 1]")
    betas = np.full(num_steps, end)
    warm = int(num_steps * fraction)
    betas[:warm] = np.linspace(start, end, warm)
    return check_betas(betas)


@takes(num_steps=Count(), offset=Real(), max_beta=Real())
def cosine_betas(num_steps: int, offset: float = 0.008, max_beta: float = 0.999) -> np.ndarray:
    """alpha-bar falls as a squared cosine: beta_t = min(1 - f(t + 1) / f(t), max_beta).

    f(t) = cos^2((t / T + s) / (1 + s) pi / 2). The clip acts on the last step alone at the usual T, where f ends at 0.
    Source: Nichol & Dhariwal, "Improved Denoising Diffusion Probabilistic Models" (2021), equation 17.

    Args:
        num_steps: T.
        offset: s, which keeps the first betas from vanishing.
        max_beta: the largest beta.

    Returns:
        [T], float64.

    Raises:
        ValueError: T below 1, or a beta outside (0, 1).
    """
    _check_steps(num_steps)
    angle = (np.arange(num_steps + 1) / num_steps + offset) / (1 + offset) * math.pi / 2
    before, after = angle[:-1], angle[1:]
    # cos^2 a - cos^2 b = sin(b - a) sin(a + b), which keeps the digits that 1 - f(t + 1) / f(t) loses.
    step = math.pi / 2 / num_steps / (1 + offset)
    return check_betas(np.minimum(math.sin(step) * np.sin(before + after) / np.cos(before) ** 2, max_beta))


def check_betas(betas: np.ndarray) -> np.ndarray:
    """The betas [T] as float64, or ValueError: none at all, not one axis, or one not inside (0, 1)."""
    betas = np.asarray(array("betas", betas), np.float64)
    if betas.ndim != 1 or len(betas) == 0:
        raise ValueError(f"betas have shape {betas.shape}; expected [T] with T at least 1")
    bad = np.flatnonzero(~((betas > 0) & (betas < 1)))
    if len(bad):
        raise ValueError(
            f"betas[{bad[0]}] is {betas[bad[0]]:g} (T = {len(betas)}, {len(bad)} such values); "
            "a beta is a variance inside (0, 1)"
        )
    return betas


def _check_steps(num_steps: int) -> None:
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}; a chain has at least 1 step")


def _ends(num_steps: int, start: float | None, end: float | None) -> tuple[float, float]:
    _check_steps(num_steps)
    if end is None and num_steps <= 20:
        raise ValueError(
            f"the default schedule ends at 20 / T, which is not below 1 for T = {num_steps}; give the betas' ends, or "
            "take cosine_betas, or respace a longer schedule"
        )
    return 0.1 / num_steps if start is None else start, 20 / num_steps if end is None else end
