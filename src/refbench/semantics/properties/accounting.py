"""Swap, KSM, counters, the kernel log, the memory cgroup."""

from __future__ import annotations

from refbench.program import (
    Advise,
    Expect,
    Fork,
    KernelLog,
    Map,
    Measure,
    Reference,
    Settle,
    Step,
    Touch,
    Unmap,
)
from refbench.semantics.evidence import size
from refbench.semantics.properties.clean import PAGES, fresh
from refbench.semantics.properties.stores import VALUE, each_page
from refbench.semantics.property import Exhibit, Finding, Need, Property, first_failure
from refbench.words import Verdict

_PAGES = 1024
_REFERENCES = 512
"""Reference pages: far more than the cgroup's counter is batched by, 64 pages a CPU."""
_SLACK = 1 << 20
"""Bytes that RSS may stay above where it began: the kernel's counters are batched, up to 64
pages, and the first snapshot itself is taken with buffers that were not yet touched."""


def _swap(page_size: int) -> tuple[Step, ...]:
    whole, half = _PAGES * page_size, _PAGES // 2 * page_size
    return (
        *fresh(page_size, pages=_PAGES),
        Touch(0, 0, half, "write", page_size, value=VALUE),
        Touch(0, half, half, "read", page_size),
        Advise(0, 0, whole, "pageout"),
        Measure("swapped"),
        Expect(0, 0, half, VALUE, stride=page_size),
        *each_page(page_size, 0, _PAGES // 2),
        Expect(0, half, half),
    )


def _judge_swap(exhibit: Exhibit) -> Finding:
    finding, swapped = first_failure(exhibit), exhibit.memory("swapped")
    if finding.verdict is not Verdict.MET or swapped is None:
        return finding
    if not swapped.swap:
        return Finding(Verdict.UNAVAILABLE, "The kernel swapped nothing out.")
    return Finding(Verdict.MET, f"{size(swapped.swap)} were in swap; {finding.evidence}")


def _ksm(page_size: int) -> tuple[Step, ...]:
    whole = PAGES * page_size
    return (
        Map(0, whole),
        Touch(0, 0, whole, "write", page_size, value=VALUE),
        Advise(0, 0, whole, "mergeable"),
        Settle(),
        Measure("merged"),
        Expect(0, 0, whole, VALUE, stride=page_size),
        *each_page(page_size, 0, PAGES),
        Touch(0, 0, 1, "write", 1, value=VALUE + 1),
        Expect(0, 0, 1, VALUE + 1),
        Expect(0, page_size, whole - page_size, VALUE, stride=page_size),
        *each_page(page_size, 0, PAGES),
    )


def _judge_ksm(exhibit: Exhibit) -> Finding:
    finding, merged = first_failure(exhibit), exhibit.memory("merged")
    if finding.verdict is not Verdict.MET or merged is None:
        return finding
    if not merged.ksm:
        return Finding(Verdict.UNAVAILABLE, "KSM merged nothing; is it on?")
    return Finding(Verdict.MET, f"{size(merged.ksm)} were merged; {finding.evidence}")


def _ksm_clean(page_size: int) -> tuple[Step, ...]:
    whole = PAGES * page_size
    return (
        *fresh(page_size),
        Touch(0, 0, whole, "read", page_size),
        Advise(0, 0, whole, "mergeable"),
        Settle(),
        Expect(0, 0, whole),
        Touch(0, 0, 1, "write", 1, value=VALUE),
        Expect(0, 0, 1, VALUE),
        Expect(0, 1, whole - 1),
    )


def _life(page_size: int) -> tuple[Step, ...]:
    whole, half = _PAGES * page_size, _PAGES // 2 * page_size
    return (
        *fresh(page_size, pages=_PAGES),
        Touch(0, 0, whole, "read", page_size),
        Touch(0, 0, half, "write", page_size, value=VALUE),
        Fork(
            child=(
                Touch(0, half, half, "write", page_size, value=VALUE),
                Fork((Touch(0, 0, whole, "read", page_size),)),
                Unmap(0, half, half),
            ),
            parent=(Advise(0, 0, half, "dontneed"), Touch(0, 0, whole, "read", page_size)),
        ),
        Unmap(0),
    )


def _rss(page_size: int) -> tuple[Step, ...]:
    return Measure("before"), *_life(page_size), Measure("after")


def _judge_rss(exhibit: Exhibit) -> Finding:
    before, after = exhibit.memory("before"), exhibit.memory("after")
    if exhibit.failed or before is None or after is None:
        return first_failure(exhibit)
    left = max(
        after.rss_anon - before.rss_anon,
        after.rss_file - before.rss_file,
        after.rss_shmem - before.rss_shmem,
    )
    said = (
        f"RSS was {size(before.rss)} before the mapping and {size(after.rss)} after it, "
        f"{size(_PAGES * exhibit.page_size)} were mapped."
    )
    return Finding(Verdict.MET if left <= _SLACK else Verdict.NOT_MET, said)


def _kernel_log(page_size: int) -> tuple[Step, ...]:
    return KernelLog("mark"), *_life(page_size), KernelLog("clean")


def _charged(page_size: int) -> tuple[Step, ...]:
    whole = _PAGES * page_size
    # Each page is stored to at another place, so that no two are equal and KSM merges none.
    places = page_size + 4
    return (
        Measure("before"),
        Map(0, whole),
        Touch(0, 0, whole, "write", places, value=VALUE),
        Measure("stored"),
        Expect(0, 0, whole, VALUE, stride=places),
    )


def _judge_charged(exhibit: Exhibit) -> Finding:
    before, stored = exhibit.memory("before"), exhibit.memory("stored")
    if exhibit.failed or before is None or stored is None:
        return first_failure(exhibit)
    if before.cgroup_current is None or stored.cgroup_current is None:
        return Finding(Verdict.UNAVAILABLE, "The memory cgroup's counters are not readable.")
    grown = stored.cgroup_current - before.cgroup_current
    whole = _PAGES * exhibit.page_size
    said = f"Storing to {size(whole)} charged {size(grown)} to the cgroup of the process."
    return Finding(Verdict.MET if grown >= whole * 9 // 10 else Verdict.NOT_MET, said)


def _clean_charged(page_size: int) -> tuple[Step, ...]:
    whole = _PAGES * page_size
    return (
        Measure("before"),
        *fresh(page_size, pages=_PAGES),
        Touch(0, 0, whole, "read", page_size),
        Measure("loaded"),
        Expect(0, 0, whole, stride=page_size),
    )


def _judge_clean_charged(exhibit: Exhibit) -> Finding:
    before, loaded = exhibit.memory("before"), exhibit.memory("loaded")
    if exhibit.failed or before is None or loaded is None:
        return first_failure(exhibit)
    if before.cgroup_current is None or loaded.cgroup_current is None:
        return Finding(Verdict.UNAVAILABLE, "The memory cgroup's counters are not readable.")
    grown = loaded.cgroup_current - before.cgroup_current
    whole = _PAGES * exhibit.page_size
    said = f"Loading from {size(whole)} charged {size(max(grown, 0))} to the cgroup of the process."
    return Finding(Verdict.MET if grown <= whole // 4 else Verdict.NOT_MET, said)


def _reference_charged(page_size: int) -> tuple[Step, ...]:
    """Each mapping keeps the page that it refers to, and the next one gets another."""
    kept = (
        step
        for region in range(_REFERENCES)
        for step in (Map(region, page_size), Reference("unmap"))
    )
    return Measure("before"), *kept, Measure("kept"), Expect(_REFERENCES - 1, 0, page_size)


def _judge_reference_charged(exhibit: Exhibit) -> Finding:
    before, kept = exhibit.memory("before"), exhibit.memory("kept")
    if exhibit.failed or before is None or kept is None:
        return first_failure(exhibit)
    if before.cgroup_current is None or kept.cgroup_current is None:
        return Finding(Verdict.UNAVAILABLE, "The memory cgroup's counters are not readable.")
    grown = kept.cgroup_current - before.cgroup_current
    whole = _REFERENCES * exhibit.page_size
    said = f"{_REFERENCES} reference pages charged {size(max(grown, 0))} to the creator's cgroup."
    return Finding(Verdict.MET if grown >= whole * 3 // 4 else Verdict.NOT_MET, said)


ACCOUNTING = (
    Property(
        "swap",
        "Pages that were swapped out come back with their content.",
        "Swap out and in.",
        _swap,
        _judge_swap,
        (Need.SWAP,),
    ),
    Property(
        "ksm-merge",
        "Pages that KSM may merge keep the pattern, and a store stays private.",
        "KSM.",
        _ksm,
        _judge_ksm,
        (Need.KSM,),
    ),
    Property(
        "ksm-clean",
        "Clean pages that KSM may merge keep the pattern, and a store stays private.",
        "KSM on clean pages, which may have no page that it could look at.",
        _ksm_clean,
        needs=(Need.KSM,),
    ),
    Property(
        "rss-returns",
        "After forks, exits and munmap the RSS counters are back where they began.",
        "RSS counters end at zero.",
        _rss,
        _judge_rss,
    ),
    Property(
        "kernel-log",
        "Forks, exits and munmap leave no complaint in the kernel log.",
        "The kernel log stays free of `BUG: Bad rss-counter state`.",
        _kernel_log,
        needs=(Need.KERNEL_LOG,),
    ),
    Property(
        "charged",
        "Stored pages are charged to the memory cgroup of the process.",
        "Memory charged to the right cgroup.",
        _charged,
        _judge_charged,
        (Need.CGROUP,),
    ),
    Property(
        "clean-charged",
        "Clean pages that are only read cost the memory cgroup next to nothing.",
        "Memory charged to the right cgroup: what was not stored to is not this process's alone.",
        _clean_charged,
        _judge_clean_charged,
        (Need.CGROUP,),
    ),
    Property(
        "reference-charged",
        "The reference page is charged to the memory cgroup of whoever makes it.",
        "Limits: descriptors and mappings must not keep kernel memory for nothing.",
        _reference_charged,
        _judge_reference_charged,
        (Need.CGROUP,),
    ),
)
