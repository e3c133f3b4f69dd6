"""What ``refbench doctor`` finds: one thing looked at, how it is, and what can be done."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import msgspec


class Level(str, Enum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    """It spoils or rules out something; the rest can be measured."""
    PROBLEM = "problem"
    """Nothing can be measured."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    what: str
    level: Level
    detail: str
    remedy: str = ""


def ok(what: str, detail: str) -> Finding:
    """It is as it should be."""
    return Finding(what, Level.OK, detail)


def warning(what: str, detail: str, remedy: str = "") -> Finding:
    """It spoils or rules out something."""
    return Finding(what, Level.WARNING, detail, remedy)


def problem(what: str, detail: str, remedy: str = "") -> Finding:
    """Nothing can be measured."""
    return Finding(what, Level.PROBLEM, detail, remedy)


def read(path: str) -> str:
    """A file under /proc or /sys, stripped; empty when it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def number(path: str) -> int | None:
    """As :func:`read`, as a whole number."""
    text = read(path)
    return int(text) if text.lstrip("-").isdecimal() else None


def chosen(text: str) -> str:
    """The word in brackets of ``always [madvise] never``, else the text."""
    start, end = text.find("["), text.find("]")
    return text[start + 1 : end] if 0 <= start < end else text
