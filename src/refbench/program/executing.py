"""What programs say of real programs that they execute: files, arguments, and where they may."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote

from refbench.errors import UsageError
from refbench.program import steps as s

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")
"""The name of a file in a program."""
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
"""The name of an environment variable."""
EXIT = "exit"
"""The label of the snapshot that is taken of an executed program at its end."""
EMPTY = "%00"
"""How an empty word is written."""
MOST_WORDS = 62
"""Arguments of one ``execute`` step."""
_PLAIN = re.compile(r"[^\s#%\x00-\x1f\x7f\\]")


def quote(word: str) -> str:
    """A word as programs hold it: white space, ``#`` and ``%`` become ``%`` and two digits."""
    if not word:
        return EMPTY
    return "".join(
        char if _PLAIN.match(char) else "".join(f"%{byte:02X}" for byte in char.encode())
        for char in word
    )


def unquoted(word: str) -> str | None:
    """What :func:`quote` wrote; ``None`` when it is broken."""
    if word == EMPTY:
        return ""
    if re.search(r"%(?![0-9A-Fa-f]{2})|%00", word):
        return None
    try:
        return unquote(word, errors="strict")
    except UnicodeDecodeError:
        return None


def digest(name: str, path: Path) -> str:
    """SHA-256 of a file that a program brings; read again only when it has changed.

    :raises UsageError: when it cannot be read.
    """
    try:
        found = path.stat()
        return _digest(path, found.st_size, found.st_mtime_ns)
    except OSError as error:
        raise UsageError(
            f"The file {name!r} of a program, {path}, cannot be read: {error.strerror}.",
            remedy="Check the path, or make the file again.",
        ) from None


@functools.lru_cache(maxsize=1024)
def _digest(path: Path, _size: int, _changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def executed(steps: Iterable[s.Step]) -> Iterator[s.Execute]:
    """Every ``execute`` step, those of blocks too."""
    for step in steps:
        if isinstance(step, s.Execute):
            yield step
        elif isinstance(step, s.Repeat):
            yield from executed(step.body)


def hands_out(steps: Iterable[s.Step]) -> bool:
    """Whether a program replays an allocator, which a mechanism that fills at malloc needs."""
    return any(isinstance(step, s.Handout) for step in _everything(steps))


def complaint(steps: Iterable[s.Step], *, names: Iterable[str]) -> str:
    """What is wrong with a program's ``execute`` steps; empty: nothing.

    They stand outside ``fork`` and ``threads``, and a program that has one maps nothing by
    itself: its cell's mechanism serves the executed program.
    """
    steps, known = tuple(steps), set(names)
    found = list(executed(steps))
    if len(found) != sum(isinstance(step, s.Execute) for step in _everything(steps)):
        return "no 'execute' inside fork or threads"
    if found and any(hasattr(step, "region") for step in _everything(steps)):
        return "a program with 'execute' maps nothing by itself"
    for step in found:
        wanted = [step.file, *(word[1:] for word in step.arguments if word.startswith("@"))]
        for name in wanted:
            if name not in known:
                return f"no line 'file {name} SHA256' says what {name!r} is"
    return ""


def _everything(steps: Iterable[s.Step]) -> Iterator[s.Step]:
    for step in steps:
        yield step
        match step:
            case s.Repeat(_, body):
                yield from _everything(body)
            case s.Fork(child, parent):
                yield from _everything((*child, *parent))
            case s.Parallel(groups):
                for group in groups:
                    yield from _everything(group.body)
            case _:
                pass
