"""madvise, populate and mlock: the pattern comes back, or stays."""

from __future__ import annotations

import errno

from refbench.grammar import format_size
from refbench.program import Advise, Expect, Lock, Map, Measure, Phase, Settle, Step, Touch
from refbench.semantics.evidence import size
from refbench.semantics.properties.clean import PAGES, fresh
from refbench.semantics.properties.stores import VALUE, each_page
from refbench.semantics.property import (
    Exhibit,
    Finding,
    Need,
    Property,
    content_first,
    first_failure,
)
from refbench.words import Verdict

_RECLAIM_PAGES = 512
_LOCKED = 1 << 20
"""Bytes locked where growth is judged: well over the error of the kernel's batched counters
(32 pages a CPU), and well under the 8 MiB that an ordinary user may lock."""
_SAMPLED = 17
"""Every so many bytes of a huge page are compared: in each page at other places."""


def _dontneed(page_size: int) -> tuple[Step, ...]:
    whole = PAGES * page_size
    return (
        *fresh(page_size),
        Touch(0, 0, whole // 2, "write", page_size, value=VALUE),
        Advise(0, 0, whole, "dontneed"),
        Expect(0, 0, whole),
    )


def _free(page_size: int) -> tuple[Step, ...]:
    whole = PAGES * page_size
    return (
        *fresh(page_size),
        Touch(0, 0, whole, "read", page_size),
        Advise(0, 0, whole, "free"),
        Expect(0, 0, whole),
        Touch(0, 0, whole, "write", page_size, value=VALUE),
        Expect(0, 0, whole, VALUE, stride=page_size),
        *each_page(page_size, 0, PAGES),
    )


def _free_reclaimed(page_size: int) -> tuple[Step, ...]:
    whole = _RECLAIM_PAGES * page_size
    return (
        *fresh(page_size, pages=_RECLAIM_PAGES),
        Touch(0, 0, whole, "read", page_size),
        Measure("read"),
        Advise(0, 0, whole, "free"),
        Advise(0, 0, whole, "pageout"),
        Measure("reclaimed"),
        Expect(0, 0, whole),
    )


def _judge_free_reclaimed(exhibit: Exhibit) -> Finding:
    finding = content_first(exhibit)
    read, reclaimed = exhibit.memory("read"), exhibit.memory("reclaimed")
    if finding.verdict is not Verdict.MET or read is None or reclaimed is None:
        return finding
    held = read.rss_anon - exhibit.sample.memory["start"].rss_anon
    freed = read.rss_anon - reclaimed.rss_anon
    whole = _RECLAIM_PAGES * exhibit.page_size
    if held > whole // 2 and freed < whole // 2:
        return Finding(
            Verdict.UNAVAILABLE,
            f"The kernel kept the freed pages: RssAnon fell by {format_size(freed)} only.",
        )
    return Finding(Verdict.MET, f"RssAnon fell by {format_size(freed)}; {finding.evidence}")


def huge_page(page_size: int) -> int:
    """Bytes of a PMD-sized huge page: a page table of 8-byte entries fills one page."""
    return page_size * page_size // 8


def _between(huge: int, stride: int) -> tuple[Step, ...]:
    """The pattern in two huge pages, but for the first byte of every ``stride``."""
    return tuple(
        Expect(0, start + 1, stride - 1, stride=_SAMPLED) for start in range(0, 2 * huge, stride)
    )


def _hugepage(page_size: int) -> tuple[Step, ...]:
    huge = huge_page(page_size)
    return (
        Map(0, 2 * huge),
        Touch(0, 0, 1, "read", 1),
        Advise(0, 0, 2 * huge, "hugepage"),
        Touch(0, 0, 2 * huge, "write", huge // 2, value=VALUE),
        Expect(0, 0, 2 * huge, VALUE, stride=huge // 2),
        *_between(huge, huge // 2),
    )


def _huge_unasked(page_size: int) -> tuple[Step, ...]:
    huge = huge_page(page_size)
    return (
        Map(0, 2 * huge),
        Touch(0, 0, 1, "read", 1),
        Touch(0, 0, 2 * huge, "write", huge // 2, value=VALUE),
        Expect(0, 0, 2 * huge, VALUE, stride=huge // 2),
        *_between(huge, huge // 2),
    )


def _collapse(page_size: int) -> tuple[Step, ...]:
    huge = huge_page(page_size)
    return (
        Map(0, 2 * huge),
        Touch(0, 0, 2 * huge, "write", huge, value=VALUE),
        Touch(0, page_size, 7 * page_size, "read", page_size),
        Advise(0, 0, 2 * huge, "collapse"),
        Expect(0, 0, 2 * huge, VALUE, stride=huge),
        *_between(huge, huge),
    )


def _judge_collapse(exhibit: Exhibit) -> Finding:
    finding = content_first(exhibit)
    short = (errno.ENOMEM, errno.EAGAIN)
    if finding.verdict is Verdict.REFUSED and exhibit.failed[0].errno in short:
        return Finding(Verdict.UNAVAILABLE, f"No huge page just now: {finding.evidence}")
    return finding


def _populate(page_size: int) -> tuple[Step, ...]:
    whole = PAGES * page_size
    return (
        Map(0, whole, populate=True),
        Settle(),
        Expect(0, 0, whole),
        Touch(0, 0, whole, "write", page_size, value=VALUE),
        Expect(0, 0, whole, VALUE, stride=page_size),
        *each_page(page_size, 0, PAGES),
    )


def _mlock(page_size: int) -> tuple[Step, ...]:
    part = 8 * page_size
    return (
        *fresh(page_size),
        Lock(0, 0, part),
        Expect(0, 0, part),
        Lock(0, 0, part, on=False),
        Expect(0, 0, PAGES * page_size),
    )


def _locked(page_size: int) -> int:
    return max(_LOCKED, PAGES * page_size)


def _mlock_shares(page_size: int) -> tuple[Step, ...]:
    whole = _locked(page_size)
    return (
        Map(0, whole),
        Settle(),
        Touch(0, 0, whole, "read", page_size),
        Measure("read"),
        Phase("lock"),
        Lock(0, 0, whole),
        Phase(),
        Measure("locked"),
        Lock(0, 0, whole, on=False),
    )


def _judge_mlock_shares(exhibit: Exhibit) -> Finding:
    read, locked = exhibit.memory("read"), exhibit.memory("locked")
    if exhibit.failed or read is None or locked is None:
        return first_failure(exhibit)
    whole = _locked(exhibit.page_size)
    faults = exhibit.sample.phases["lock"].faults
    # KSM merges the copies again at once; the faults that made them are counted all the same.
    copied = max(locked.rss_anon - read.rss_anon, faults * exhibit.page_size)
    said = (
        f"Locking {size(whole)} of pages that had been read took {faults} faults; "
        f"RssAnon went from {size(read.rss_anon)} to {size(locked.rss_anon)}."
    )
    return Finding(Verdict.NOT_MET if copied > whole // 2 else Verdict.MET, said)


ADVICE = (
    Property(
        "dontneed",
        "MADV_DONTNEED brings the pattern back.",
        "Hildenbrand's MADV_DONTNEED: allocators give memory back with it and reuse the range.",
        _dontneed,
    ),
    Property(
        "free",
        "After MADV_FREE clean pages keep the pattern, and a store is kept.",
        "MADV_FREE: the cheaper way of allocators to give memory back.",
        _free,
        content_first,
    ),
    Property(
        "free-reclaimed",
        "Pages reclaimed after MADV_FREE read as the pattern again.",
        "MADV_FREE, followed by what memory pressure does to freed pages.",
        _free_reclaimed,
        _judge_free_reclaimed,
    ),
    Property(
        "hugepage",
        "MADV_HUGEPAGE and stores leave the pattern in the whole huge page.",
        "Shutemov's question: what about THP; a zeroed huge page would break the pattern.",
        _hugepage,
        content_first,
        (Need.THP,),
    ),
    Property(
        "hugepage-always",
        "Where every mapping may have huge pages, stores leave the pattern in the whole of them.",
        "Shutemov's question: what about THP, where nobody asks for it.",
        _huge_unasked,
        content_first,
        (Need.THP_ALWAYS,),
    ),
    Property(
        "collapse",
        "MADV_COLLAPSE gathers clean and stored pages and keeps both.",
        "Shutemov's question: what about THP; khugepaged takes clean pages for zero ones.",
        _collapse,
        _judge_collapse,
        (Need.THP,),
    ),
    Property(
        "populate",
        "A mapping made with MAP_POPULATE reads as the pattern.",
        "MAP_POPULATE of a writable private mapping copies every page.",
        _populate,
    ),
    Property(
        "mlock",
        "mlock of clean pages succeeds and keeps the pattern.",
        "mlock faults pages in from inside the kernel.",
        _mlock,
    ),
    Property(
        "mlock-shares",
        "mlock makes no private copies of clean pages that were read.",
        "mlock of a writable private mapping copies every page: what sharing saved is lost.",
        _mlock_shares,
        _judge_mlock_shares,
    ),
)
