"""Fewer steps than the chain was trained with."""

import operator
from collections.abc import Sequence

import numpy as np

from jaxgen.arguments import takes
from jaxgen.diffusion.schedule import Schedule, exact_log_alphas_bar, skip_steps


@takes(schedule=Schedule)
def respace(schedule: Schedule, steps: str | int | Sequence[int]) -> Schedule:
    """A schedule over some of the steps, with the same alpha-bar at each; its `timesteps` say which they are.

    Sections: the chain is cut into as many equal sections as there are counts, and each count of steps is spread over
    its section, first and last included. A single count spreads over the whole chain, from 0 to T - 1. "ddimN": N
    steps of the smallest integer stride from 0 that gives N, as in the DDIM paper; the last kept step is then below
    T - 1 in general. The stride is below T, so N is at least 2. A schedule that was respaced before is respaced over
    the steps it still has. Source: Nichol & Dhariwal (2021), section 4, and `space_timesteps` of their code.

    "logsnrN": N steps, first and last included, as nearly equal as whole steps can be in the log of alpha-bar /
    (1 - alpha-bar). Best for DPM-Solver++, whose extrapolation overshoots where steps grow towards the data, as
    steps equal in time do (Lu et al. 2022, "logSNR").

    Args:
        schedule: the chain, of T steps.
        steps: a count (25), counts of sections ("10,15,20" or (10, 15, 20)), "ddim25" or "logsnr25".

    Returns:
        a schedule whose `betas` are 1 - alpha-bar_i / alpha-bar of the step kept before.

    Raises:
        ValueError: steps that the chain does not have; the message says which counts it allows.
    """
    total = schedule.num_steps
    steps = steps.strip() if isinstance(steps, str) else steps
    if isinstance(steps, str) and steps.startswith("ddim"):
        kept = _strided(total, steps)
    elif isinstance(steps, str) and steps.startswith("logsnr"):
        kept = _even_in_log_snr(exact_log_alphas_bar(schedule), steps)
    else:
        kept = _sections(total, _counts(steps))
    return skip_steps(schedule, kept)


def _counts(steps: str | int | Sequence[int]) -> list[int]:
    if isinstance(steps, int | np.integer):
        return [int(steps)]
    try:
        if isinstance(steps, str):
            return [int(part) for part in steps.split(",")]
        return [operator.index(part) for part in steps]
    except (TypeError, ValueError):
        expected = "a count (25), counts of sections ('10,15,20'), 'ddim25' or 'logsnr25'"
        raise ValueError(f"steps is {steps!r}; expected {expected}") from None


def _count_after(prefix: str, steps: str) -> int:
    """The count in "ddim25" or "logsnr25"; 0 where there is none."""
    try:
        return int(steps.removeprefix(prefix))
    except ValueError:
        return 0


def _strided(total: int, steps: str) -> np.ndarray:
    # The strides that the authors' code tries.
    possible = {len(range(0, total, stride)): stride for stride in range(total - 1, 0, -1)}
    count = _count_after("ddim", steps)
    if count not in possible:
        counts = f"the counts that can are {_as_ranges(sorted(possible))}" if possible else "no count can"
        raise ValueError(
            f"{steps!r} cannot be made of {total} steps with one integer stride below {total}; {counts}"
            + (", and '1' keeps one step" if count == 1 else "")
        )
    return np.arange(0, total, possible[count])


def _even_in_log_snr(log_alphas_bar: np.ndarray, steps: str) -> np.ndarray:
    count, total = _count_after("logsnr", steps), len(log_alphas_bar)
    if not min(2, total) <= count <= total:
        raise ValueError(f"{steps!r} cannot be made of {total} steps; the counts that can are {min(2, total)}-{total}")
    log_snr = log_alphas_bar - np.log(-np.expm1(log_alphas_bar))
    wanted = np.linspace(log_snr[0], log_snr[-1], count)
    number = np.arange(count)
    nearest = np.argmin(np.abs(log_snr[None, :] - wanted[:, None]), axis=1)
    # Distinct: each step beyond the one before it, with room left for those that follow.
    forward = np.maximum.accumulate(nearest - number) + number
    return np.minimum(forward, total - count + number)


def _sections(total: int, counts: list[int]) -> np.ndarray:
    if not counts or min(counts) < 0 or sum(counts) < 1 or len(counts) > total:
        raise ValueError(f"sections of {counts} steps; expected 1 to {total} counts of at least 0, not all 0")
    size, extra = divmod(total, len(counts))
    kept, begin = [], 0
    for section, count in enumerate(counts):
        length = size + (section < extra)
        if count > length:
            raise ValueError(
                f"section {section} of {len(counts)} has {length} of the {total} steps and cannot give {count}; "
                f"it can give 0 to {length}"
            )
        stride = (length - 1) / (count - 1) if count > 1 else 1.0
        # The authors add the stride up and round half to even; a product could round another way.
        position = 0.0
        for _ in range(count):
            kept.append(begin + round(position))
            position += stride
        begin += length
    return np.array(kept)


def _as_ranges(numbers: list[int]) -> str:
    """1, 2, 3, 5 -> "1-3, 5"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{first}-{last}" if last > first else str(first) for first, last in runs)
