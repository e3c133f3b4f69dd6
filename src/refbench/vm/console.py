"""A guest's serial console: everything it says, in the order in which it said it.

QEMU writes each byte to a file while the guest waits for that very byte. So whatever the guest
logged before it answered through another way is in the file when the answer arrives.
"""

from __future__ import annotations

import re
from pathlib import Path

_STAMP = re.compile(r"(?:<\d+>)?\[ *(\d+\.\d{6})\](?:\[ *[CT]\d+\])? ?")


def text_of(line: str) -> str:
    """``line`` without the kernel's time stamp, the caller that printk may name, and whatever
    a program had written to the console without ending its line."""
    found = _STAMP.search(line)
    return line[found.end() :] if found else line


def stamp(line: str) -> float | None:
    """The kernel's time stamp in seconds since the guest's boot; ``None`` without one."""
    found = _STAMP.search(line)
    return float(found[1]) if found else None


class Console:
    """The console's log in ``path``, read further on each call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._rest = b""
        self._lines: list[str] = []

    def read(self) -> int:
        """Take in what came since; how many whole lines there are now."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return len(self._lines)
        if data:
            self._offset += len(data)
            *whole, self._rest = (self._rest + data).split(b"\n")
            self._lines += [_decoded(line) for line in whole]
        return len(self._lines)

    def lines(self, start: int = 0) -> tuple[str, ...]:
        """The whole lines so far from number ``start`` on, and the last, unfinished one."""
        self.read()
        return (*self._lines[start:], *([_decoded(self._rest)] if self._rest else []))

    def size(self) -> int:
        """Bytes that the guest has said so far."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0


def _decoded(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r")
