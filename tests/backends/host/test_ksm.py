"""KSM is switched on for the cells that need it, and never stays so.

A module of its own: the session of another one may have it switched on.
"""

from __future__ import annotations

import pytest

from refbench.grammar import Spec, resolve
from refbench.merging import KSM
from refbench.program import Map, Phase, Program, Touch
from refbench.words import Cell, Pattern
from refbench_host.backend import HostBackend
from refbench_host.session import HostSession

backend = HostBackend()

if not backend.probe().ok:
    pytest.skip(backend.probe().reason, allow_module_level=True)


def open_host(target: str = "host") -> HostSession:
    return backend.open(resolve(Spec.parse(target), backend.options, what="target"))


def cell(mechanism: str) -> Cell:
    steps = (Phase("map"), Map(0, 1 << 20), Phase("touch"), Touch(0, 0, 1 << 20, "write", 65536))
    return Cell("program:ksm-test", Spec.parse(mechanism), Pattern(), Program("ksm-test", steps))


@pytest.fixture
def ksm_off() -> None:
    if not (KSM / "run").exists():
        pytest.skip("no KSM in this kernel")
    if (KSM / "run").read_text().strip() != "0":
        pytest.skip("KSM is on already: somebody else's, or another session's")


def test_ksm_is_switched_on_for_its_cells_and_set_back(as_root: None, ksm_off: None) -> None:
    before = {path: (KSM / path).read_text() for path in ("run", "pages_to_scan")}
    with open_host() as opened:
        assert opened.capabilities().mechanisms["ksm"].ok
        opened.run(cell("anon"), 1, 60)
        assert (KSM / "run").read_text() == before["run"]
        run = opened.run(cell("ksm"), 1, 60)
        assert run.failure is None, run.failure
        assert (KSM / "run").read_text().strip() == "1"
    assert {path: (KSM / path).read_text() for path in before} == before


def test_ksm_is_left_alone_when_told_so(as_root: None, ksm_off: None) -> None:
    with open_host("host:ksm=leave") as opened:
        answer = opened.capabilities().mechanisms["ksm"]
        assert not answer.ok
        assert answer.reason
        assert answer.remedy
        run = opened.run(cell("ksm"), 1, 60)
    assert run.failure is not None
    assert run.failure.kind == "unsupported"
    assert (KSM / "run").read_text().strip() == "0"
