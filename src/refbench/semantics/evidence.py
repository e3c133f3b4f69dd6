"""Observations in words."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from refbench.grammar import format_size
from refbench.samples import Observation


def error_name(number: int) -> str:
    """``EFAULT (Bad address)``."""
    return f"{errno.errorcode.get(number, str(number))} ({os.strerror(number)})"


def tell(seen: Observation, lines: Sequence[str]) -> str:
    """What one failed step saw, with the line of the program that it is."""
    text = lines[seen.line - 1].strip() if 0 < seen.line <= len(lines) else seen.step
    if seen.errors:
        wrong = "1 byte" if seen.errors == 1 else f"{seen.errors} bytes"
        said = (
            f"{wrong} wrong, the first at offset {seen.offset:#x}: "
            f"{seen.got:#04x} instead of {seen.wanted:#04x}"
        )
    elif seen.errno:
        said = error_name(seen.errno)
    else:
        said = "failed"
    detail = f" ({seen.detail})" if seen.detail else ""
    return f"`{text}`: {said}{detail}."


def describe(observations: Sequence[Observation]) -> str:
    """One sentence about steps that all went as expected."""
    count = len(observations)
    return f"{count} check{'s' if count != 1 else ''}, each as expected."


def size(value: int | None) -> str:
    """Bytes for people; a number that could not be read is said to be so."""
    return "unreadable" if value is None else format_size(value)
