"""What the modelled kernel, and the program on it, spend time on: counted, never timed here.

Everything that happens is entered in a :class:`Ledger`. Times come out of it by way of a cost
table (:mod:`refbench_simulator.costs`), explanations by way of its listener.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from refbench_simulator.rules import Rule


class Event(str, Enum):
    """One kind of work. The value is its name in cost tables."""

    TRAP = "trap"
    """An exception in user mode: entry, looking up the VMA, return."""
    FAULT = "fault"
    """The kernel handled a page fault, after an exception or on behalf of a system call that
    populates: walking and locking the tables, accounting (``handle_mm_fault()``)."""
    LOOKUP = "lookup"
    """A fault looked into the page cache of a file."""
    ALLOC = "alloc"
    """A page, small or huge, was allocated and charged to its memory cgroup; what then fills it
    is apart. A first store under a userfaultfd allocates a page that it frees again:
    ``do_anonymous_page()`` looks for the userfaultfd last."""
    CLEAR = "clear"
    """The kernel cleared a page's bytes."""
    CLEAR_HUGE = "clear-huge"
    """The kernel cleared a base page's bytes of a huge page: too much at a time for a cache."""
    COPY = "copy"
    """The kernel copied a page's bytes: copy-on-write, UFFDIO_COPY."""
    RMAP = "rmap"
    """A new anonymous page entered the reverse mapping and the LRU lists:
    ``folio_add_new_anon_rmap()``."""
    FILL = "fill"
    """User space stored a whole page."""
    TOUCH = "touch"
    """User space accessed a place."""
    PTE = "pte"
    """The kernel installed a page table entry in a fault."""
    AROUND = "around"
    """The kernel installed an entry next to the one that faulted (fault-around)."""
    MAPPED = "mapped"
    """A page of a file got its first entry anywhere: ``__folio_add_rmap()`` then also counts."""
    UNMAPPED = "unmapped"
    """A page of a file lost its last entry: ``__folio_remove_rmap()``."""
    FLUSH = "flush"
    """A store replaced an entry that showed another page, and the TLB was flushed for it."""
    ZAP = "zap"
    """The kernel removed an entry that showed a page, a special one too."""
    FREE = "free"
    """A page went back to the allocator."""
    DROP = "drop"
    """A page left the page cache because its file went, before it was freed."""
    TABLE = "table"
    """A page table page was allocated and cleared."""
    MMAP = "mmap"
    """A VMA was made by mmap(2), beside the system call itself."""
    ANON_VMA = "anon-vma"
    """A VMA got an ``anon_vma`` of its own: with its first anonymous page, or by fork(2)."""
    UNLINK = "unlink"
    """A VMA gave its ``anon_vma`` up: ``unlink_anon_vmas()``."""
    SPLIT = "split"
    """A VMA was cut in two, or two were merged."""
    MODIFY = "modify"
    """A system call changed what a VMA permits or is for: ``vma_modify()``, beside splitting."""
    MUNMAP = "munmap"
    """A VMA was removed."""
    PROTECT = "protect"
    """mprotect(2) changed an entry."""
    MOVE = "move"
    """mremap(2) moved an entry."""
    SYSCALL = "syscall"
    """Entering and leaving the kernel by a system call."""
    SIGNAL = "signal"
    """A signal was delivered to a handler and returned from."""
    MESSAGE = "message"
    """A userfault went to another thread and back."""
    THREAD = "thread"
    """A thread was started."""
    FILE = "file"
    """A file in memory was made, and removed when nothing used it any more."""
    FORK = "fork"
    """fork(2) and the child's first steps, beside what is copied."""
    FORK_VMA = "fork-vma"
    """A VMA was copied by fork(2)."""
    FORK_PTE = "fork-pte"
    """An entry was copied by fork(2)."""
    EXIT = "exit"
    """A process ended and was waited for, beside what is torn down."""
    CACHE = "cache"
    """write(2) put a page into the page cache."""
    SWAP = "swap"
    """A page was written to swap or read from it."""
    MERGE = "merge"
    """KSM compared a page and merged it."""


USER = frozenset({Event.FILL, Event.TOUCH})
"""What is done in user mode; everything else is the kernel's."""

Where = NDArray[np.int64] | slice | None
"""The rows that an entry is about; ``None``: no pages."""


class Hears(Protocol):
    """Who listens to a ledger."""

    def hear(self, rule: Rule, rows: Where, what: str, events: dict[Event, int]) -> None:
        """An entry was made, in the order in which things happen; ``events`` may be empty.

        What is in ``rows`` may change later.
        """


@dataclass(slots=True)
class Ledger:
    """The events since it was last taken.

    ``listener``, where there is one, also hears every entry, with the rule by which it happened.
    """

    counts: Counter[Event] = field(default_factory=Counter)
    listener: Hears | None = None

    def add(self, rule: Rule, rows: Where = None, *, what: str = "", **events: int) -> None:
        """Enter events by their names in :class:`Event`, lower case: ``add(TRAP, rows, trap=3)``.

        ``what`` tells entries of one rule apart where their events do not, such as ``mmap(2)``
        of a system call.
        """
        for name, count in events.items():
            if count:
                self.counts[Event[name.upper()]] += int(count)
        if self.listener is not None:
            found = {Event[name.upper()]: int(n) for name, n in events.items() if n}
            self.listener.hear(rule, rows, what, found)

    def take(self) -> Counter[Event]:
        """What has been entered since the last call."""
        taken, self.counts = self.counts, Counter()
        return taken
