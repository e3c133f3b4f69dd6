"""Measurements for the reports: two cases, several mechanisms, and every kind of failure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from refbench.samples import (
    CellId,
    Environment,
    Failure,
    Measurement,
    MemorySnapshot,
    PhaseCounters,
    Run,
    Sample,
)

MIB = 1 << 20
Make = Callable[..., tuple[Measurement, ...]]
HERE = Environment(
    target="host",
    clock="real",
    kernel="6.18.0",
    arch="x86_64",
    page_size=4096,
    facts={"cpu": "A <CPU> & more", "thp": "off"},
)
START = MemorySnapshot(
    rss=MIB, rss_anon=MIB, rss_file=0, rss_shmem=0, hwm=MIB, pte=40960, vmas=12,
    pss=MIB, sys_shmem=9 * MIB, sys_slab=50 * MIB,
)  # fmt: skip
TABLE = {  # map s, touch s, faults, SIGBUS, RSS MiB, anonymous MiB, held MiB, slab MiB, VMAs
    "anon": (1e-5, 0.0024, 1026, 0, 4, 4, 0, 0, 1),
    "memset": (0.243, 7e-5, 16387, 0, 64, 64, 0, 0, 1),
    "memfd": (0.173, 0.018, 1027, 0, 4, 4, 0, 6, 16384),
    "memfd-full": (0.010, 0.015, 1042, 0, 64, 4, 64, 0, 1),
    "uffd-sigbus": (2e-5, 0.0095, 3, 1024, 4, 4, 0, 0, 1),
}
FAILURES = (
    ("ksm", Failure(kind="unsupported", message="KSM is off.", remedy="Write 1 to run.")),
    ("memfd:block=3", Failure(kind="limit-hit", message="131072 mappings.", wanted=2, limit=1)),
    ("uffd", Failure(kind="wrong-content", message="4096 bytes <are> wrong.")),
)


def _cell(case: str, mechanism: str) -> CellId:
    return CellId(
        key=f"sparse-touch|{mechanism}|{case}",
        workload="sparse-touch:stride=16",
        mechanism=mechanism,
        pattern="byte:0xAA",
        case=case,
    )


def _sample(index: int, name: str, luck: float, *, cgroup: bool, wobble: int) -> Sample:
    mapped, touched, faults, sigbus, rss, anonymous, held, slab, vmas = TABLE[name]
    there = replace(
        START,
        rss=(1 + rss) * MIB,
        rss_anon=(1 + anonymous) * MIB,
        pss=(1 + anonymous) * MIB,
        held=held * MIB,
        sys_shmem=(9 + held) * MIB,
        sys_slab=(50 + slab) * MIB,
        vmas=12 + vmas,
        cgroup_current=(2 + anonymous + held + slab) * MIB if cgroup else None,
    )
    start = replace(START, cgroup_current=2 * MIB if cgroup else None)
    return Sample(
        index=index,
        phases={
            "map": PhaseCounters(ns=round(mapped * luck * 1e9), syscalls=vmas),
            "touch": PhaseCounters(
                ns=round(touched * luck * 1e9), minor_faults=faults + wobble, sigbus=sigbus
            ),
        },
        memory={"start": start, "touch": there},
    )


@pytest.fixture(scope="session")
def make() -> Make:
    """``make(cgroup=, runs=, where=, failures=, wobble=)``: measurements of two cases."""

    def build(
        *,
        cgroup: bool = True,
        runs: int = 8,
        where: Environment = HERE,
        failures: bool = True,
        wobble: bool = False,
    ) -> tuple[Measurement, ...]:
        random = np.random.default_rng(0)
        made = []
        for case in ("sparse-write", "sparse-read"):
            for name in TABLE:
                all_runs = tuple(
                    Run(
                        samples=tuple(
                            _sample(
                                index,
                                name,
                                random.lognormal(0, 0.02),
                                cgroup=cgroup,
                                wobble=run % 2 if wobble else 0,
                            )
                            for index in range(3)
                        ),
                        wall_ns=10**8,
                        started="2020-07-31T00:00:00Z",
                    )
                    for run in range(runs)
                )
                made.append(Measurement(cell=_cell(case, name), environment=where, runs=all_runs))
            made += [
                Measurement(cell=_cell(case, name), environment=where, runs=(Run(failure=failure),))
                for name, failure in (FAILURES if failures else ())
            ]
        return tuple(made)

    return build
