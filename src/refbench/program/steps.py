"""The steps that a program consists of. docs/program-format.md says what each one does.

Regions are small numbers. Offsets and lengths are bytes from the start of a region.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Access = Literal["read", "write", "readwrite"]
Order = Literal["forward", "backward", "random"]
Protection = Literal["none", "read", "readwrite"]
KernelRead = Literal["write", "direct", "vmreadv", "procmem", "core"]
KernelWrite = Literal["read", "vmwritev", "procmem"]
Tampering = Literal["write", "truncate", "unmap"]
Origin = Literal[
    "from-anonymous",
    "from-file",
    "from-shared",
    "from-hugetlb",
    "from-mapping",
    "from-device",
    "from-unmapped",
    "from-inaccessible",
    "from-compat",
    "from-compat-signed",
]
"""Memory that a reference page is made from; the last two by a 32-bit caller."""
ADVICE = (
    "cold",
    "collapse",
    "dontneed",
    "free",
    "hugepage",
    "mergeable",
    "nohugepage",
    "pageout",
    "populate-read",
    "populate-write",
    "unmergeable",
    "willneed",
)
Past = Literal["fresh", "reused", "purged"]
"""What memory that an allocator hands out was before: mapped and nothing else, handed out and
freed, or given back to the kernel with MADV_DONTNEED."""
Content = Literal["pattern", "zero"] | int
"""What a byte should read as: the cell's pattern, zero, or one given byte."""


@dataclass(frozen=True, slots=True)
class Phase:
    """What follows is timed under ``name``; an empty name: it is not timed."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class Measure:
    """Take a memory snapshot, outside the clock."""

    label: str


@dataclass(frozen=True, slots=True)
class Map:
    """Map ``size`` bytes as ``region`` with the cell's mechanism and pattern; ``plain``: as
    anonymous memory, whatever these are."""

    region: int
    size: int
    populate: bool = False
    plain: bool = False


@dataclass(frozen=True, slots=True)
class MapAnonymous:
    """Map plain anonymous memory as ``region``, straight after region ``after``."""

    region: int
    size: int
    after: int


@dataclass(frozen=True, slots=True)
class Unmap:
    """munmap(2) of a range; ``length`` 0: to the region's end."""

    region: int
    offset: int = 0
    length: int = 0


@dataclass(frozen=True, slots=True)
class Touch:
    """Access ``size`` bytes at every ``stride``-th byte of a range."""

    region: int
    offset: int
    length: int
    access: Access
    stride: int
    size: int = 1
    order: Order = "forward"
    seed: int = 0
    count: int = 0
    """Only the first ``count`` places of the order; 0: all of them."""
    value: int = 0x55
    shared: bool = False
    """In a thread: this thread's even share of the places, instead of all of them."""


@dataclass(frozen=True, slots=True)
class Handout:
    """An allocator hands out a range ``times`` times, and fills it where the mechanism under it
    leaves that to the allocator."""

    region: int
    offset: int
    length: int
    past: Past
    times: int = 1


@dataclass(frozen=True, slots=True)
class Expect:
    """Check every ``stride``-th byte of a range, outside the clock.

    ``once``: in the warm-up sample only, so that the check populates nothing in the others.
    """

    region: int
    offset: int
    length: int
    content: Content = "pattern"
    stride: int = 1
    once: bool = False


@dataclass(frozen=True, slots=True)
class Advise:
    """madvise(2)."""

    region: int
    offset: int
    length: int
    advice: str


@dataclass(frozen=True, slots=True)
class Protect:
    """mprotect(2)."""

    region: int
    offset: int
    length: int
    protection: Protection


@dataclass(frozen=True, slots=True)
class Lock:
    """mlock(2), or munlock(2) when ``on`` is false."""

    region: int
    offset: int
    length: int
    on: bool = True


@dataclass(frozen=True, slots=True)
class Remap:
    """mremap(2) of a range to a new region of ``new_length`` bytes (0: the same length)."""

    region: int
    offset: int
    length: int
    target: int
    new_length: int = 0


@dataclass(frozen=True, slots=True)
class KernelReads:
    """Let the kernel read a range in one of five ways and check what it saw."""

    region: int
    offset: int
    length: int
    via: KernelRead
    content: Content = "pattern"


@dataclass(frozen=True, slots=True)
class KernelWrites:
    """Let the kernel store ``value`` in a range in one of three ways."""

    region: int
    offset: int
    length: int
    via: KernelWrite
    value: int = 0x55


@dataclass(frozen=True, slots=True)
class Userfault:
    """Ask for the missing pages of a range by a userfaultfd, and fill each of them with ``value``;
    then leave the range alone again."""

    region: int
    offset: int
    length: int
    value: int = 0x55


@dataclass(frozen=True, slots=True)
class Reference:
    """Do something to the mechanism's reference page behind the mapping's back, or have the
    mappings to come refer to another one."""

    action: Tampering | Origin


@dataclass(frozen=True, slots=True)
class Descriptors:
    """A forked child executes a program, which must find no descriptor open but the standard
    ones."""


@dataclass(frozen=True, slots=True)
class Settle:
    """Wait, outside the clock, until the mechanism's background work is done (KSM)."""


@dataclass(frozen=True, slots=True)
class KernelLog:
    """Remember where the kernel log stands, or check that nothing bad came since."""

    action: Literal["mark", "clean"]


@dataclass(frozen=True, slots=True)
class Execute:
    """Execute a real program, on the allocator that the cell's mechanism stands behind.

    ``file`` and arguments such as ``@NAME`` name files of :attr:`Program.files`; such an
    argument becomes the file's place on the target. ``seconds`` is about how long it takes, for
    the estimate alone, and ``supplied`` the least percentage of its private memory that must come
    from the mechanism for a run to count: neither is a part of the program.
    """

    file: str
    arguments: tuple[str, ...] = ()
    seconds: float = field(default=1.0, compare=False)
    supplied: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Repeat:
    """Do ``body`` ``count`` times."""

    count: int
    body: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Fork:
    """fork(2): ``child`` runs in the child, then ``parent`` in the parent, then the child exits.

    With ``parent_first`` the child waits until the parent's part is done.
    """

    child: tuple[Step, ...]
    parent: tuple[Step, ...] = ()
    parent_first: bool = False


@dataclass(frozen=True, slots=True)
class Threads:
    """``count`` threads that each do ``body``; with ``loop`` again and again, until every
    group of the same :class:`Parallel` without ``loop`` is done."""

    count: int
    body: tuple[Step, ...]
    loop: bool = False


@dataclass(frozen=True, slots=True)
class Parallel:
    """Groups of threads that start together behind a barrier and are joined together."""

    groups: tuple[Threads, ...]


Step = (
    Phase
    | Measure
    | Map
    | MapAnonymous
    | Unmap
    | Touch
    | Handout
    | Expect
    | Advise
    | Protect
    | Lock
    | Remap
    | KernelReads
    | KernelWrites
    | Userfault
    | Reference
    | Descriptors
    | Settle
    | KernelLog
    | Execute
    | Repeat
    | Fork
    | Parallel
)


@dataclass(frozen=True, slots=True)
class Program:
    """Steps with a name; ``observe_all`` reports every checking step, not only failed ones.

    With ``observe_all`` a failed step does not end the run: that is how the semantics suite
    collects evidence. Without it the first failed step ends the run as *wrong content*.
    ``files``: what ``execute`` steps need on the target, by name; ``environment``: variables
    of the programs that they execute.
    """

    name: str
    steps: tuple[Step, ...]
    observe_all: bool = False
    files: Mapping[str, Path] = field(default_factory=dict, hash=False)
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)

    def text(self) -> str:
        """The program file.

        :raises UsageError: when one of ``files`` cannot be read: the text has their digests.
        """
        from refbench.program.writer import dump

        return dump(self)
