"""Reading traces, block by block: the events of a long run do not fit into memory at once."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from refbench.errors import UsageError
from refbench.trace import format as f
from refbench.trace.format import Damaged, Events

_RECORD = "Record it again: refbench trace record -- COMMAND."
_SALVAGE = "Record it again, or read what is whole with --salvage."


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace file whose header, blocks and end have been looked at.

    ``facts`` come from its beginning, ``ending`` from its end; ``ending`` is empty, ``cut`` says
    where and why, and ``blocks`` and ``events`` count what is whole, when the file was cut short.
    """

    path: Path
    page_size: int
    facts: dict[str, str]
    ending: dict[str, str]
    blocks: int
    events: int
    cut: str = ""

    def read(self) -> Iterator[Events]:
        """The events of each whole block."""
        with self.path.open("rb") as file:
            _skip_header(file, self.path)
            for _ in range(self.blocks):
                try:
                    _, payload, events = _block(file)
                    yield f.decode(payload, events)
                except Damaged as error:
                    raise _damaged(self.path, str(error), file.tell()) from None


def open_trace(path: Path, *, salvage: bool = False) -> Trace:
    """Look through a trace file: every checksum, and whether it has its end.

    ``salvage``: take what is whole of a file that was cut short or damaged.

    :raises UsageError: when it cannot be read, is no trace, or is not whole.
    """
    try:
        with path.open("rb") as file:
            page_size, facts = _header(file, path)
            return _look_through(file, Trace(path, page_size, facts, {}, 0, 0), salvage=salvage)
    except OSError as error:
        raise UsageError(
            f"The trace {path} cannot be read: {os.strerror(error.errno or 0)}.",
            remedy="Check the path; `refbench trace record -- COMMAND` writes one.",
        ) from None


def _look_through(file: BinaryIO, trace: Trace, *, salvage: bool) -> Trace:
    blocks = events = 0
    cut = ""
    ending: dict[str, str] = {}
    at = file.tell()
    try:
        while True:
            at = file.tell()
            kind, payload, count = _block(file)
            if kind == f.LAST:
                ending = f.facts_of(payload)
                _check_end(ending, blocks, events, more=bool(file.read(1)))
                break
            f.decode(payload, count)
            blocks, events = blocks + 1, events + count
    except Damaged as error:
        if not salvage:
            raise _damaged(trace.path, str(error), at) from None
        cut, ending = f"at byte {at}: {error}", {}
    return Trace(trace.path, trace.page_size, trace.facts, ending, blocks, events, cut)


def _check_end(ending: dict[str, str], blocks: int, events: int, *, more: bool) -> None:
    if (ending.get("blocks"), ending.get("events")) != (str(blocks), str(events)):
        raise Damaged("its end does not count the blocks and events that are there")
    if more:
        raise Damaged("something comes behind its end")


def _header(file: BinaryIO, path: Path) -> tuple[int, dict[str, str]]:
    start = file.read(f.HEADER.size)
    if len(start) < f.HEADER.size or not start.startswith(f.MAGIC):
        raise UsageError(f"{path} is no heap trace.", remedy=_RECORD)
    _, version, page_size, size = f.HEADER.unpack(start)
    if version != f.VERSION:
        raise UsageError(
            f"The trace {path} has version {version}; this refbench reads version {f.VERSION}.",
            remedy="Use the refbench that recorded it, or record it again.",
        )
    text = file.read(min(size, f.MOST_STORED))
    sum_ = file.read(f.CHECKSUM.size)
    if len(text) < size or len(sum_) < f.CHECKSUM.size:
        raise _damaged(path, "it was cut short", file.tell(), remedy=_RECORD)
    if f.CHECKSUM.pack(zlib.crc32(start + text)) != sum_ or page_size & (page_size - 1):
        raise _damaged(path, "the checksum of its header is wrong", 0, remedy=_RECORD)
    return page_size, f.facts_of(text)


def _skip_header(file: BinaryIO, path: Path) -> None:
    _header(file, path)


def _block(file: BinaryIO) -> tuple[int, bytes, int]:
    """Kind, payload and count of events of the next block."""
    head = file.read(f.HEAD.size)
    if len(head) < f.HEAD.size:
        raise Damaged("it was cut short")
    kind, stored, events, plain = f.HEAD.unpack(head)
    if kind not in (f.PLAIN, f.DEFLATED, f.LAST) or max(stored, plain) > f.MOST_STORED:
        raise Damaged("this is no block")
    payload = file.read(stored)
    sum_ = file.read(f.CHECKSUM.size)
    if len(payload) < stored or len(sum_) < f.CHECKSUM.size:
        raise Damaged("it was cut short")
    if f.CHECKSUM.pack(zlib.crc32(payload, zlib.crc32(head))) != sum_:
        raise Damaged("a checksum is wrong")
    if kind == f.DEFLATED:
        payload = _inflated(payload, plain)
    return kind, payload, events


def _inflated(payload: bytes, plain: int) -> bytes:
    try:
        inflater = zlib.decompressobj()
        found = inflater.decompress(payload, plain + 1)
    except zlib.error as error:
        raise Damaged(f"a block cannot be inflated: {error}") from None
    if len(found) != plain:
        raise Damaged("a block inflates to another size than it says")
    return found


def _damaged(path: Path, what: str, at: int, *, remedy: str = _SALVAGE) -> UsageError:
    return UsageError(f"The trace {path} is not whole: at byte {at}: {what}.", remedy=remedy)
