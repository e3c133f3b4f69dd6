"""A mechanism that is wrong on purpose fails the properties that all of ours keep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from refbench.agent import build_agent, build_launcher
from refbench.agent_session import AgentSession
from refbench.backend import Session
from refbench.grammar import Option, Spec
from refbench.semantics import check
from refbench.semantics.properties import PROPERTIES
from refbench.words import Mechanism, Verdict
from refbench_host.channel import HostChannel

LEAKY = Mechanism(
    "leaky",
    "one file, mapped shared",
    options=(
        Option("dirty", "bool", False, "pages are wrong from the start"),
        Option("stays", "bool", False, "the file is open in programs that are executed"),
    ),
    sources=(Path(__file__).with_name("leaky.c"),),
)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    agent = build_agent(mechanisms=[LEAKY])
    scratch = str(tmp_path_factory.mktemp("scratch"))
    with AgentSession(
        HostChannel(build_launcher().path), agent=agent, arguments=("--scratch", scratch)
    ) as opened:
        yield opened


def verdict(session: Session, text: str, name: str) -> tuple[Verdict, str]:
    found = check.run(session, {"leaky": LEAKY}, [Spec.parse(text)], [PROPERTIES[name]])
    return found.examinations[0].verdict, found.examinations[0].evidence


@pytest.mark.parametrize(
    "name", ["store-copies", "fork-private", "dontneed", "reference-changed", "reference-truncated"]
)
def test_stores_that_leak_are_seen(session: Session, name: str) -> None:
    found, evidence = verdict(session, "leaky", name)
    assert found is Verdict.NOT_MET, evidence


@pytest.mark.parametrize("name", ["clean-user", "clean-write", "read-then-write", "threads-store"])
def test_what_leaking_stores_do_not_touch_is_met(session: Session, name: str) -> None:
    found, evidence = verdict(session, "leaky", name)
    assert found is Verdict.MET, evidence


@pytest.mark.parametrize(
    "name",
    [
        "clean-user",
        "clean-write",
        "clean-vmreadv",
        "clean-procmem",
        "store-copies",
        "read-then-write",
        "stored-by-read",
        "stored-by-vmwritev",
        "stored-by-procmem",
        "fork-child",
        "fork-child-store",
        "fork-parent",
        "fork-grandchild",
        "threads-read",
        "exec-closes",
        "userfault",
        "dontneed",
        "free",
        "free-reclaimed",
        "hugepage",
        "collapse",
        "populate",
        "mlock",
        "remap-move",
        "remap-grow",
        "protect",
        "unmap-partial",
        "neighbour-content",
        "reference-unmapped",
    ],
)
def test_pages_that_are_wrong_from_the_start_are_seen(session: Session, name: str) -> None:
    found, evidence = verdict(session, "leaky:dirty", name)
    assert found is Verdict.NOT_MET, evidence


def test_a_descriptor_that_survives_exec_is_seen(session: Session) -> None:
    found, evidence = verdict(session, "leaky:stays", "exec-closes")
    assert found is Verdict.NOT_MET, evidence
    assert "the program has 1 descriptors of this process" in evidence
    assert verdict(session, "leaky", "exec-closes")[0] is Verdict.MET
