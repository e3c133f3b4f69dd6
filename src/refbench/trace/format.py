"""The bytes of a trace: docs/trace-format.md, ``native/interposer/record_file.c``."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

MAGIC = b"refbtrc\n"
VERSION = 1
HEADER = struct.Struct("<8sIII")
"""Magic, version, page size in bytes, bytes of the facts that follow."""
HEAD = struct.Struct("<IIII")
"""Of a block: kind, stored bytes, events, bytes once inflated."""
CHECKSUM = struct.Struct("<I")
PLAIN, DEFLATED, LAST = 1, 2, 3
BLOCK_EVENTS = 1 << 16
"""Events that a block has at most."""
MOST_STORED = 1 << 26
"""Bytes that no block comes near: what claims more is damaged."""
_NUMBERS = 4
_MOST_BYTES = 10


class Kind(IntEnum):
    """What an event is."""

    MAP = 1
    UNMAP = 2
    PURGE = 3
    READ = 4
    WRITE = 5
    THREAD_BEGIN = 6
    THREAD_END = 7
    FORK = 8
    SPAN_FRESH = 9
    SPAN_REUSED = 10
    FREE = 11
    BLOCK_FRESH = 12
    BLOCK_REUSED = 13
    BLOCK = 14
    ZEROED = 15
    MAP_ZERO = 16
    AGAIN_FRESH = 17
    AGAIN_REUSED = 18
    AGAIN_PURGED = 19


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """Columns of equal length: ``kind``, ``address`` and ``length`` in bytes, ``thread``."""

    kind: NDArray[np.uint8]
    address: NDArray[np.int64]
    length: NDArray[np.int64]
    thread: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.kind.size)


class Damaged(ValueError):
    """Bytes that are not what the format says; the text says what is wrong."""


def decode(payload: bytes, count: int) -> Events:
    """The ``count`` events of a block's payload.

    :raises Damaged: when they are not there, or more is.
    """
    numbers = _numbers(np.frombuffer(payload, np.uint8))
    if numbers.size != count * _NUMBERS:
        raise Damaged(f"{numbers.size} numbers are not those of {count} events")
    columns = numbers.reshape(count, _NUMBERS)
    kind = columns[:, 0]
    if count and int(kind.max()) > max(Kind):
        raise Damaged(f"an event of the unknown kind {int(kind.max())}")
    return Events(
        kind.astype(np.uint8),
        np.cumsum(_signed(columns[:, 1])),
        columns[:, 2].astype(np.int64),
        np.cumsum(_signed(columns[:, 3])),
    )


def encode(events: Events) -> bytes:
    """The payload of a block."""
    columns = np.empty((len(events), _NUMBERS), np.uint64)
    columns[:, 0] = events.kind
    columns[:, 1] = _zigzag(np.diff(events.address, prepend=0))
    columns[:, 2] = events.length.astype(np.uint64)
    columns[:, 3] = _zigzag(np.diff(events.thread, prepend=0))
    values = columns.ravel()
    parts = np.empty((values.size, _MOST_BYTES), np.uint8)
    there = np.ones((values.size, _MOST_BYTES), np.bool_)
    for i in range(_MOST_BYTES):
        rest = values >> np.uint64(7 * i)
        goes_on = rest >= 0x80
        parts[:, i] = (rest & np.uint64(0x7F)) | np.where(goes_on, np.uint64(0x80), np.uint64(0))
        if i + 1 < _MOST_BYTES:
            there[:, i + 1] = there[:, i] & goes_on
    return parts[there].tobytes()


def _zigzag(values: NDArray[np.int64]) -> NDArray[np.uint64]:
    return ((values << 1) ^ (values >> 63)).astype(np.uint64)


def _signed(values: NDArray[np.uint64]) -> NDArray[np.int64]:
    halves = (values >> np.uint64(1)).astype(np.int64)
    return halves ^ -(values & np.uint64(1)).astype(np.int64)


def _numbers(data: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The LEB128 numbers that ``data`` consists of."""
    if not data.size:
        return np.zeros(0, np.uint64)
    ends = np.flatnonzero(data < 0x80)
    if not ends.size or ends[-1] != data.size - 1:
        raise Damaged("the last number of a block does not end")
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if int(lengths.max()) > _MOST_BYTES:
        raise Damaged("a number of more than 64 bits")
    found = (data[starts] & 0x7F).astype(np.uint64)
    for i in range(1, int(lengths.max())):
        longer = np.flatnonzero(lengths > i)
        part = (data[starts[longer] + i] & 0x7F).astype(np.uint64)
        found[longer] |= part << np.uint64(7 * i)
    return found


def facts_text(facts: Mapping[str, str]) -> bytes:
    """Facts as lines of ``key=value``."""
    return "".join(f"{key}={value}\n" for key, value in facts.items()).encode()


def facts_of(text: bytes) -> dict[str, str]:
    """The facts in such lines."""
    lines = text.decode(errors="replace").splitlines()
    return {key: value for key, found, value in (line.partition("=") for line in lines) if found}


def header(page_size: int, facts: Mapping[str, str]) -> bytes:
    """The beginning of a file."""
    text = facts_text(facts)
    head = HEADER.pack(MAGIC, VERSION, page_size, len(text)) + text
    return head + CHECKSUM.pack(zlib.crc32(head))


def block(kind: int, payload: bytes, events: int, plain: int) -> bytes:
    """One block with its checksum."""
    head = HEAD.pack(kind, len(payload), events, plain)
    return head + payload + CHECKSUM.pack(zlib.crc32(payload, zlib.crc32(head)))
