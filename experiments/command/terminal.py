"""What the tools' commands share on the terminal: errors without a traceback, and tables. Imports no jax."""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator, Sequence


@contextlib.contextmanager
def errors_exit(code: int = 1) -> Iterator[None]:
    """Ends the program with this code after a ValueError, OSError or FloatingPointError, whose message is printed.

    With JAXGEN_TRACEBACK set, the traceback is printed too.
    """
    try:
        yield
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("JAXGEN_TRACEBACK"):
            traceback.print_exc()
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(code)


def table(lines: Sequence[Sequence[str]], markdown: bool = False, *, align_right: bool = False) -> str:
    """Lines of cells as text with aligned columns, or as Markdown; the first line is the header."""
    if markdown:
        rule = ["---"] * len(lines[0])
        return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    pad = str.rjust if align_right else str.ljust
    return "\n".join("  ".join(map(pad, line, widths)) for line in lines)
