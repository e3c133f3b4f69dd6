"""Small programs, each of which needs one part of the model to be right.

Random programs find faults in all of it, but some of them late: these make sure that none slips
through a run with few random ones.
"""

from __future__ import annotations

from collections.abc import Iterator

from refbench.program import Program, parse

HEAD = "refbench-program 1\nobserve all\n"
FILES = ("memfd-full", "memfd:block=16", "memfd:block=3")

DIRECTED: tuple[tuple[str, tuple[str, ...], str], ...] = (
    (
        "windows of fault-around, in and out of order, and one that a VMA's start cuts short",
        FILES,
        """
        map 0 524288
        protect 0 40960 8192 read
        phase read
        touch 0 12288 4096 read 4096
        touch 0 45056 4096 read 4096
        touch 0 200704 131072 read 73728 order=backward
        phase -
        measure read
        phase write
        touch 0 0 524288 write 20480
        phase -
        measure written
        expect 0 200704 4096 pattern stride=16
        advise 0 0 524288 dontneed
        measure gone
        phase again
        touch 0 262144 262144 readwrite 32768
        phase -
        expect 0 262144 262144 pattern stride=4095
        measure again
        """,
    ),
    (
        "the zero page, and a store over it",
        ("anon", "segv", "uffd", "uffd-sigbus"),
        """
        map 0 65536
        phase read
        touch 0 0 65536 read 4096
        phase write
        touch 0 0 32768 write 4096
        phase -
        measure written
        expect 0 0 65536 pattern stride=4095
        """,
    ),
    (
        "fork, copies in the child and in the parent, reuse, permissions taken and given",
        ("anon", "memset", "uffd", "uffd:atfork=yes", "uffd-sigbus:atfork=yes", *FILES),
        """
        map 0 131072
        touch 0 0 32768 write 4096
        map 1 65536
        touch 1 0 65536 read 4096
        fork
          measure child
          phase child
          touch 0 0 8192 write 4096
          touch 0 65536 65536 readwrite 8192
          touch 1 0 65536 read 4096
          phase -
          measure child-wrote
        parent
          phase parent
          touch 0 4096 8192 write 4096
          phase -
          measure parent-wrote
        end
        measure alone
        protect 0 0 131072 read
        protect 0 0 131072 readwrite
        phase reuse
        touch 0 0 32768 write 4096
        phase -
        measure reused
        protect 0 0 131072 read
        protect 0 0 131072 readwrite
        phase owned
        touch 0 0 32768 write 4096
        phase -
        """,
    ),
    (
        "permissions given back while a child shares the pages",
        ("anon",),
        """
        map 0 65536
        touch 0 0 65536 write 4096
        fork
          protect 0 0 65536 read
          protect 0 0 65536 readwrite
          phase child
          touch 0 0 32768 write 4096
          phase -
          measure child
        parent
          measure parent
        end
        """,
    ),
    (
        "locking, what locked VMAs refuse, and what a child inherits of it",
        ("anon", "memfd-full"),
        """
        map 0 65536
        phase lock
        lock 0 0 32768
        phase -
        measure locked
        advise 0 0 65536 dontneed
        measure refused
        fork
          advise 0 0 65536 dontneed
          measure child
        parent
        end
        phase grow
        remap 0 0 16384 10 65536
        phase -
        measure grown
        """,
    ),
    (
        "populating, by mmap, for reading and for writing",
        ("anon", "memfd-full"),
        """
        map 0 65536 populate
        measure populated
        map 1 65536
        phase read
        advise 1 0 65536 populate-read
        phase -
        measure read
        phase write
        advise 1 0 65536 populate-write
        phase -
        measure written
        """,
    ),
    (
        "MADV_FREE, and for whom it is not",
        ("memset", "memfd-full"),
        """
        map 0 65536
        touch 0 0 65536 write 4096
        advise 0 0 32768 free
        measure freed
        """,
    ),
    (
        "page tables: kept for neighbours, given back when emptied, never in part",
        ("anon",),
        """
        map 0 8388608
        touch 0 0 8388608 write 65536
        measure tables
        advise 0 1048576 3145728 dontneed
        measure emptied
        unmap 0 0 4198400
        measure unmapped
        touch 0 4198400 4096 read 4096
        fork
          measure child
        parent
        end
        unmap 0 0 0
        measure gone
        """,
    ),
    (
        "tables of VMAs that fork does not copy",
        ("anon",),
        """
        map 0 4194304
        touch 0 0 4194304 read 65536
        map 1 4096
        touch 1 0 4096 write 4096
        fork
          measure child
          touch 0 0 8192 read 4096
          measure read
        parent
        end
        """,
    ),
    (
        "VMAs split and merge, by permissions, flags and offsets",
        ("anon", "memset", "memfd:block=3", "memfd-full"),
        """
        map 0 65536
        protect 0 16384 16384 read
        measure split
        protect 0 16384 16384 readwrite
        measure merged
        advise 0 16384 16384 nohugepage
        measure flagged
        unmap 0 40960 4096
        measure hole
        map-anonymous 100 65536 0
        measure neighbour
        """,
    ),
    (
        "an anon_vma that a neighbour lends",
        ("anon",),
        """
        map 0 16384
        protect 0 0 8192 read
        touch 0 8192 8192 write 4096
        protect 0 8192 8192 none
        protect 0 0 8192 readwrite
        touch 0 0 8192 write 4096
        protect 0 8192 8192 readwrite
        measure merged
        """,
    ),
    (
        "one that none lends, because a fork has cloned it",
        ("anon",),
        """
        map 0 32768
        protect 0 0 8192 read
        touch 0 8192 8192 write 4096
        protect 0 8192 8192 none
        fork
          protect 0 0 8192 readwrite
          touch 0 0 8192 write 4096
          protect 0 8192 8192 readwrite
          measure child
          protect 0 16384 4096 read
          touch 0 20480 4096 write 4096
          measure apart
        parent
        end
        """,
    ),
    (
        "VMAs that a child shares with its parent, and untouched neighbours",
        ("anon",),
        """
        map 0 16384
        touch 0 0 16384 write 4096
        fork
          map-anonymous 100 16384 0
          measure behind
          touch 100 0 16384 write 4096
          measure touched
        parent
        end
        """,
    ),
    (
        "an own anon_vma in front of one's neighbour",
        ("anon",),
        """
        map 0 16384
        protect 0 0 8192 none
        touch 0 8192 8192 write 4096
        fork
          protect 0 0 8192 readwrite
          measure child
        parent
        end
        map 1 16384
        touch 1 0 4096 write 4096
        advise 1 8192 8192 nohugepage
        touch 1 8192 4096 write 4096
        advise 1 8192 8192 hugepage
        advise 1 0 8192 hugepage
        measure two
        """,
    ),
    (
        "accounting: promised when it becomes writable",
        ("segv", "anon"),
        """
        map 0 16384
        protect 0 0 16384 none
        protect 0 0 16384 readwrite
        map-anonymous 100 16384 0
        measure merged
        touch 0 0 16384 write 4096
        touch 100 0 16384 write 4096
        measure written
        """,
    ),
    (
        "mremap: pages, tables, offsets, registrations",
        ("anon", "uffd", "uffd-sigbus", "segv"),
        """
        map 0 4194304
        touch 0 0 16384 write 4096
        touch 0 2097152 16384 write 4096
        remap 0 0 4194304 10 0
        measure moved
        phase touch
        touch 10 8192 16384 write 4096
        phase -
        measure touched
        map 1 16384
        remap 1 0 16384 11 0
        map-anonymous 111 16384 11
        measure untouched
        map 2 16384
        protect 2 8192 4096 read
        remap 2 0 16384 12 0
        measure several
        """,
    ),
    (
        "userfaultfd: counts, stores behind the copy, fork",
        ("uffd", "uffd-sigbus", "uffd:atfork=yes", "uffd-sigbus:atfork=yes", "segv"),
        """
        map 0 65536
        phase read
        touch 0 0 16384 read 4096
        phase write
        touch 0 0 32768 write 4096
        phase -
        measure written
        fork
          measure child
          phase child
          touch 0 16384 32768 readwrite 4096
          phase -
          measure touched
        parent
        end
        expect 0 0 65536 pattern stride=4095
        """,
    ),
)


def directed() -> Iterator[tuple[Program, str]]:
    """Each program with each of its mechanisms."""
    for name, mechanisms, text in DIRECTED:
        for mechanism in mechanisms:
            yield parse(f"{HEAD}{text}", source=name), mechanism
