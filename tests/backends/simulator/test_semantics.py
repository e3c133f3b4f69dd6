"""The semantics suite on the model: cell by cell what this machine answers, and as expected."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from subprocess import CompletedProcess

import pytest

from refbench.backend import Session
from refbench.grammar import Spec, resolve
from refbench.plan import AHEAD_OF_KERNELS
from refbench.plugins import registry
from refbench.semantics import check
from refbench.semantics.matrix import Examination, Matrix
from refbench.semantics.properties import PROPERTIES
from refbench.words import Verdict
from refbench_simulator.mechanisms.segv import Segv

Refbench = Callable[..., "CompletedProcess[str]"]

AHEAD = tuple(Spec.parse(text, what="mechanism") for text in AHEAD_OF_KERNELS)

OF_THE_MACHINE = {
    "accepts-hugetlb": "whether huge pages were set aside",
    "clean-charged": "whether there is a memory cgroup for the agents",
    "clean-core": "where core files go, and whether the agent may write some",
    "clean-direct": "whether the scratch directory is on a disk that has O_DIRECT",
    "charged": "whether there is a memory cgroup for the agents",
    "collapse": "whether there is a huge page just now",
    "hugepage-always": "whether every mapping may have huge pages",
    "kernel-log": "whether the kernel log may be read",
    "ksm-clean": "whether KSM may be switched on",
    "ksm-merge": "whether KSM may be switched on",
    "reference-charged": "whether there is a memory cgroup for the agents",
    "swap": "whether there is swap that takes a page just now",
}
"""Properties that a machine may be unable to examine and the model is not, with what it takes."""

MEASURED = {
    "charged": "the counters of a cgroup are batched, and are of the agent as well",
    "clean-charged": "the counters of a cgroup are batched, and are of the agent as well",
    "mlock-shares": "RSS is of the agent as well",
    "reference-charged": "the counters of a cgroup are batched, and are of the agent as well",
    "rss-returns": "RSS is of the agent as well",
    "threads-read": "how often threads meet is the scheduler's affair",
    "threads-store": "how often threads meet is the scheduler's affair",
}
"""Properties whose evidence has a number that is not the model's business, with the reason."""


def opened(text: str) -> Session:
    spec = Spec.parse(text, what="target")
    backend = registry().backends[spec.name]
    return backend.open(resolve(spec, backend.options, what="target"))


def examined(text: str, specs: tuple[Spec, ...], *names: str) -> Matrix:
    chosen = [PROPERTIES[name] for name in names or PROPERTIES]
    with opened(text) as session:
        return check.run(session, registry().mechanisms, specs, chosen)


@pytest.fixture(scope="module")
def host() -> Matrix:
    return examined("host", check.DEFAULT_SPECS)


@pytest.fixture(scope="module")
def model() -> Matrix:
    return examined("simulator:like=host", (*check.DEFAULT_SPECS, *AHEAD))


def pairs(host: Matrix, model: Matrix) -> Iterator[tuple[Examination, Examination]]:
    for item in host.examinations:
        yield item, model.at(item.row, item.mechanism)


def test_every_verdict_is_this_machines(host: Matrix, model: Matrix) -> None:
    differ = [
        (here.row, here.mechanism, here.verdict.value, there.verdict.value, there.evidence)
        for here, there in pairs(host, model)
        if here.verdict is not there.verdict and Verdict.UNAVAILABLE is not here.verdict
    ]
    assert differ == []
    assert len(host.examinations) == len(PROPERTIES) * len(check.DEFAULT_SPECS)


def test_what_this_machine_cannot_examine_is_listed(host: Matrix, model: Matrix) -> None:
    only_here = {
        (here.row, here.mechanism)
        for here, there in pairs(host, model)
        if here.verdict is Verdict.UNAVAILABLE and there.verdict is not Verdict.UNAVAILABLE
    }
    assert {row for row, _ in only_here} <= set(OF_THE_MACHINE)
    compared = [here for here, _ in pairs(host, model) if here.verdict is not Verdict.UNAVAILABLE]
    assert len(compared) > len(host.examinations) // 3


def test_the_evidence_is_the_same_to_the_letter(host: Matrix, model: Matrix) -> None:
    differ = [
        (here.row, here.mechanism, here.evidence, there.evidence)
        for here, there in pairs(host, model)
        if here.verdict is there.verdict is not Verdict.UNAVAILABLE
        and here.row not in MEASURED
        and here.evidence != there.evidence
    ]
    assert differ == []


def test_the_comparison_can_fail(host: Matrix, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose threads never meet keeps the pattern, and this machine does not."""
    monkeypatch.setattr(Segv, "races", False)
    rows = ("threads-read", "threads-store")
    tame = examined("simulator:like=host", (Spec("segv"),), *rows)
    for row in rows:
        assert host.at(row, "segv").verdict is Verdict.NOT_MET
        assert tame.at(row, "segv").verdict is Verdict.MET


@pytest.mark.parametrize(
    "target",
    [
        "simulator",
        "simulator:page=64KiB",
        "simulator:kernel=6.1",
        "simulator:kernel=6.12,thp=always",
        "simulator:privileged=no",
    ],
)
def test_every_modelled_machine_is_as_expected(target: str) -> None:
    found = examined(target, (*check.DEFAULT_SPECS, *AHEAD))
    assert [(x.row, x.mechanism, x.verdict, x.evidence) for x in found.unexpected] == []


def test_what_is_swapped_out_comes_back() -> None:
    found = examined("simulator:swap=1GiB", (*check.DEFAULT_SPECS, *AHEAD), "swap")
    assert {item.verdict for item in found.examinations} == {Verdict.MET}


def test_without_ksm_its_properties_are_unavailable_with_the_remedy() -> None:
    found = examined("simulator:ksm=no", (Spec("ksm"), Spec("memset")), "ksm-merge", "clean-user")
    verdicts = {(item.row, item.mechanism): item.verdict for item in found.examinations}
    gone = Verdict.UNAVAILABLE
    assert verdicts == {
        ("ksm-merge", "ksm"): gone,
        ("clean-user", "ksm"): gone,
        ("ksm-merge", "memset"): gone,
        ("clean-user", "memset"): Verdict.MET,
    }
    assert "simulator:ksm=yes" in found.at("clean-user", "ksm").evidence


@pytest.mark.parametrize(
    ("row", "mechanism", "verdict", "said"),
    [
        ("clean-direct", "refpage-dev", Verdict.REFUSED, "EEXIST"),
        ("clean-vmreadv", "refpage-dev", Verdict.REFUSED, "EFAULT"),
        ("clean-procmem", "refpage-dev", Verdict.REFUSED, "EIO"),
        ("clean-direct", "refpage", Verdict.MET, "as expected"),
        ("clean-procmem", "refpage-mmap", Verdict.MET, "as expected"),
        ("clean-core", "refpage", Verdict.MET, "as expected"),
        ("clean-core", "refpage-dev", Verdict.NOT_MET, "0x00 instead of 0xaa"),
        ("clean-core", "refpage-dev:handler=naive", Verdict.MET, "as expected"),
        ("clean-direct", "refpage-dev:handler=naive", Verdict.MET, "as expected"),
        ("dontneed", "refpage", Verdict.MET, "as expected"),
        ("free", "refpage", Verdict.MET, "as expected"),
        ("free", "refpage-dev", Verdict.REFUSED, "EINVAL"),
        ("collapse", "refpage", Verdict.REFUSED, "EINVAL"),
        ("hugepage", "refpage", Verdict.MET, "as expected"),
        ("mlock-shares", "refpage", Verdict.NOT_MET, "took 256 faults"),
        ("remap-grow", "refpage", Verdict.MET, "as expected"),
        ("neighbour-vma", "refpage", Verdict.MET, "VMAs without"),
        ("reference-changed", "refpage", Verdict.MET, "It is prevented"),
        ("reference-changed", "refpage-mmap", Verdict.NOT_MET, "0x55 instead of 0xaa"),
        ("reference-unmapped", "refpage-mmap", Verdict.MET, "It was done"),
        ("ksm-merge", "refpage", Verdict.MET, "were merged"),
        ("ksm-merge", "refpage-dev", Verdict.UNAVAILABLE, "merged nothing"),
    ],
)
def test_reference_pages_ahead_of_their_kernels(
    model: Matrix, row: str, mechanism: str, verdict: Verdict, said: str
) -> None:
    item = model.at(row, mechanism)
    assert item.verdict is verdict
    assert said in item.evidence


def test_the_command_examines_them_where_they_work(refbench: Refbench) -> None:
    done = refbench("check", "-b", "simulator", "-b", "host", "--property", "clean-user", "--json")
    assert done.returncode == 0, done.stderr
    targets = json.loads(done.stdout)["targets"]
    found = {name: [x["mechanism"] for x in targets[name]["examinations"]] for name in targets}
    assert found["simulator"] == [*found["host"], *AHEAD_OF_KERNELS]


def test_asking_a_real_kernel_for_them_says_why_not(refbench: Refbench) -> None:
    done = refbench("run", "-b", "host", "-m", "refpage", "-w", "sparse-touch:size=1MiB")
    assert done.returncode == 5
    text = " ".join((done.stdout + done.stderr).split())
    assert "refpage_create(2)" in text
    assert "refbench kernel build" in text
    assert "-b qemu" in text
    assert "Traceback" not in text
