"""A promise, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

DEADLINE = 60.0
"""Seconds for what takes a moment on a slow board."""
LATE = 1.0
"""Seconds after which what never ends is to be ended."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one promise."""

    promise: str
    broken: str = ""
    """What happened instead; empty when the promise was kept."""
    left_out: str = ""
    """Why it could not be examined here."""


class BrokenError(Exception):
    """A promise was not kept."""


class LeftOutError(Exception):
    """A promise cannot be examined here."""


def finding(promise: str, check: Callable[[], None]) -> Finding:
    """What became of ``promise``, which ``check`` examines by what it raises."""
    try:
        check()
    except BrokenError as error:
        return Finding(promise, broken=str(error))
    except LeftOutError as error:
        return Finding(promise, left_out=str(error))
    except Exception as error:
        return Finding(promise, broken=raised(error))
    return Finding(promise)


def raised(error: Exception) -> str:
    """An exception that nobody promised."""
    return f"it raised {type(error).__name__}: {error}"


def want(right: bool, what: str) -> None:
    """:raises BrokenError: with ``what`` happened instead, unless it is ``right``."""
    if not right:
        raise BrokenError(what)
