"""The mechanisms that need a patched kernel or a module, where there is neither."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.native.conftest import NATIVE, Agent, Ask, observed

from refbench.errors import Unsupported
from refbench.grammar import Spec
from refbench.semantics.properties.reference import ORIGINS

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "backends/refbench_qemu/kernel/modules/refpage/refpage_dev.h"
SPECS = ("refpage", "refpage-mmap", "refpage-dev", "refpage-dev:handler=naive")
NEEDED = {
    "refpage": ("REFBENCH_NR_REFPAGE_CREATE", "refbench kernel build"),
    "refpage-mmap": ("MAP_REFPAGE", "refbench kernel build"),
    "refpage-dev": ("/dev/refpage", "Load the module"),
    "refpage-dev:handler=naive": ("/dev/refpage", "Load the module"),
}
"""By mechanism: what the reason and the remedy name."""

pytestmark = pytest.mark.skipif(
    Path("/dev/refpage").exists(), reason="this kernel has the module loaded"
)


@pytest.fixture(autouse=True)
def no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFBENCH_NR_REFPAGE_CREATE", raising=False)


@pytest.mark.parametrize("mechanism", SPECS)
def test_a_run_says_what_is_missing_and_where_to_get_it(agent: Agent, mechanism: str) -> None:
    failure = agent.failure("refbench-program 1\nmap 0 4096\n", mechanism)
    reason, remedy = NEEDED[mechanism]
    assert failure.kind == "unsupported"
    assert reason in failure.message
    assert remedy in failure.remedy
    assert "-b qemu" in failure.remedy


@pytest.mark.parametrize("mechanism", SPECS)
def test_the_python_module_says_the_same(mechanism: str) -> None:
    native = pytest.importorskip("refbench.native")
    answer = native.probe(Spec.parse(mechanism))
    reason, remedy = NEEDED[mechanism]
    assert not answer.ok
    assert reason in answer.reason
    assert remedy in answer.remedy
    with pytest.raises(Unsupported):
        native.Mapping(1 << 16, mechanism=mechanism)


@pytest.mark.parametrize("text", ["junk", "12x", "-1", "99999", ""])
def test_a_number_that_is_none_is_as_good_as_none(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("REFBENCH_NR_REFPAGE_CREATE", text)
    failure = agent.failure("refbench-program 1\nmap 0 4096\n", "refpage")
    assert failure.kind == "unsupported"
    assert "REFBENCH_NR_REFPAGE_CREATE" in failure.message


def test_the_number_of_the_environment_is_called(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFBENCH_NR_REFPAGE_CREATE", "3999")
    failure = agent.failure("refbench-program 1\nmap 0 4096\n", "refpage")
    assert "call 3999" in failure.message


@pytest.mark.parametrize("mechanism", ["anon", "memset", "memfd", "uffd"])
def test_others_refer_to_no_page(ask_agent: Ask, mechanism: str) -> None:
    lines = "".join(f"reference from-{kind}\n" for kind in ORIGINS)
    for seen in observed(ask_agent("observe all\n" + lines, mechanism=mechanism)):
        assert not seen.ok
        assert seen.errno == 95
        assert seen.detail == "the mechanism refers to no page"


def test_the_mechanism_knows_the_modules_interface() -> None:
    def constants(path: Path) -> dict[str, str]:
        found = re.findall(
            r"^#define (REFPAGE_DEV_[A-Z]+(?:_[A-Z]+)*) (.+)$", path.read_text(), re.MULTILINE
        )
        return {name: value.replace("uint32_t", "__u32") for name, value in found}

    own = constants(NATIVE / "mechanisms" / "refpage_dev.c")
    assert own == constants(MODULE)
    assert len(own) == 4
