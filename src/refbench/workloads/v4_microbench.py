"""``v4-microbench``: the program that the fourth version of the reference page series measured.

Map 4,096,000 bytes, store one byte in the first page, in the first half of the pages or in all
of them, unmap; 1000 times. It stands beside the figures that were published with it, so its loop
has no phases and no stops of its own: nothing but the three calls is between two clock readings.
The peak of RSS (``hwm``) stands beside the time, as the published maximum did.

4,096,000 bytes are 1000 pages of 4 KiB and 250 of 16 KiB. Of 64 KiB they are 62.5: the size is
then rounded up to whole pages, as mmap(2) does, and stores are a page apart whatever its size.
"""

from __future__ import annotations

from refbench.grammar import Option, Values
from refbench.program import Map, Measure, Phase, Program, Repeat, Settle, Touch, Unmap
from refbench.words import Workload
from refbench.workloads.common import checked, size_option

SIZE = 4_096_000
"""Bytes, of the published program."""
COUNT = 1000
"""Repetitions, of the published program."""
_SHARES = ("one", "half", "all")


def _program(values: Values, page_size: int) -> Program:
    pages = -(-values.integer("size") // page_size)
    size = pages * page_size
    touched = {"one": 1, "half": -(-pages // 2), "all": pages}[values.text("touch")]
    length = touched * page_size
    again = (Map(0, size), Touch(0, 0, length, "write", page_size), Unmap(0, 0, size))
    last = Touch(1, 0, length, "write", page_size)
    return Program(
        "v4-microbench",
        (
            Phase("loop"),
            Repeat(values.integer("count"), again),
            Phase(),
            Measure("loop"),
            Map(1, size),
            Settle(),
            last,
            Measure("touch"),
            *checked(last, page_size),
            Unmap(1, 0, size),
            Measure("end"),
        ),
    )


WORKLOAD = Workload(
    "v4-microbench",
    "The series' own program: map 1000 pages, store in one, half or all of them, unmap, again.",
    (
        size_option(SIZE),
        Option("touch", "choice", "one", "pages that are stored to, from the first", _SHARES),
        Option("count", "int", COUNT, "how often", minimum=1, maximum=1 << 20),
    ),
    _program,
    ("time", "hwm", "lost", "rss", "traps", "syscalls"),
)
