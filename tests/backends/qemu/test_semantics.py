"""The semantics suite on the patched kernel, and docs/patched-kernel-semantics.md."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.backends.qemu.conftest import Open

from refbench.agent import I386, compiler_probe
from refbench.grammar import Spec
from refbench.plan import AHEAD_OF_KERNELS
from refbench.plugins import registry
from refbench.semantics import check
from refbench.semantics.matrix import SYMBOLS, Matrix
from refbench.semantics.properties import PROPERTIES
from refbench.words import Verdict

PAGE = Path(__file__).resolve().parents[3] / "docs" / "patched-kernel-semantics.md"
AHEAD = tuple(Spec.parse(text, what="mechanism") for text in AHEAD_OF_KERNELS)
ELSEWHERE = {"hugepage-always"}
"""Properties that this guest cannot examine: it has huge pages only on request."""


def examined(open_qemu: Open, target: dict[str, str], *names: str) -> Matrix:
    with open_qemu(clock="real", **target) as session:
        chosen = [PROPERTIES[name] for name in names or PROPERTIES]
        return check.run(session, registry().mechanisms, AHEAD, chosen)


@pytest.fixture(scope="module")
def matrix(open_qemu: Open) -> Matrix:
    return examined(open_qemu, {"swap": "128MiB", "append": "hugepages=4"})


def test_every_verdict_is_as_expected(matrix: Matrix) -> None:
    wrong = [(x.row, x.mechanism, x.verdict, x.evidence) for x in matrix.unexpected]
    assert wrong == []
    missing = {
        x.row
        for x in matrix.examinations
        if x.verdict is Verdict.UNAVAILABLE and x.expected is not Verdict.UNAVAILABLE
    }
    assert missing == ELSEWHERE


def test_huge_pages_that_nobody_asks_for_leave_the_pattern(open_qemu: Open) -> None:
    found = examined(open_qemu, {"thp": "always"}, "hugepage-always", "hugepage", "collapse")
    assert [(x.row, x.mechanism) for x in found.unexpected] == []
    assert {x.verdict for x in found.examinations if x.row == "hugepage-always"} == {Verdict.MET}


def test_the_page_shows_what_the_kernel_does(matrix: Matrix) -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in PROPERTIES:
        cells = [SYMBOLS[matrix.at(name, str(spec)).verdict][0] for spec in AHEAD]
        assert f"| `{name}` | " + " | ".join(cells) + " |\n" in text


def test_a_32_bit_program_is_told_the_same(open_qemu: Open) -> None:
    """Every mechanism but one: futex(2) of 32-bit programs, which the thread of uffd waits on, is
    not in this kernel (COMPAT_32BIT_TIME)."""
    if not (found := compiler_probe(I386)).ok:
        pytest.skip(f"{found.reason} {found.remedy}")
    names = [
        *("accepts-compat", "accepts-compat-signed", "accepts-mapping", "rejects-unmapped"),
        *("clean-user", "clean-write", "clean-direct", "clean-vmreadv", "clean-procmem"),
        *("clean-core", "store-copies", "fork-grandchild", "fork-private", "userfault"),
        *("exec-closes", "hugepage", "remap-move", "neighbour-vma", "reference-charged"),
    ]
    specs = [*AHEAD, *(spec for spec in check.DEFAULT_SPECS if spec.name != "uffd")]
    with open_qemu(clock="real", bits="32") as session:
        assert session.capabilities().environment["bits"] == "32"
        asked = [PROPERTIES[name] for name in names]
        matrix = check.run(session, registry().mechanisms, specs, asked)
    wrong = [
        (x.row, x.mechanism, x.verdict, x.evidence)
        for x in matrix.examinations
        if x.verdict is not x.expected
    ]
    assert wrong == []
    met = {x.row for x in matrix.examinations if x.mechanism == "refpage-mmap" and not x.reason}
    assert {"accepts-compat", "accepts-compat-signed"} <= met
