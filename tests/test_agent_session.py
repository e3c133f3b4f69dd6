"""AgentSession on a channel that a plugin could have written, and on one that loses things."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from refbench.agent import Binary, compiler_probe
from refbench.agent_session import RETRIES, AgentSession
from refbench.backend import Answer
from refbench.cache import file_digest
from refbench.errors import BackendError
from refbench.grammar import Spec
from refbench.housekeeping import SessionState
from refbench.program import Expect, Map, Measure, Phase, Program, Touch
from refbench.words import Cell, Pattern

SIZE = 1 << 20
AGENT = {"type": "agent", "version": "1", "arch": "x86_64", "page_size": 4096, "kernel": "6.18"}
AGENT |= {"cpu": 1}
MEMORY = {"rss": 1, "rss_anon": 1, "rss_file": 0, "rss_shmem": 0, "hwm": 2, "pte": 3, "vmas": 4}


def said(*records: Mapping[str, object], rc: int = 0) -> Answer:
    lines = [json.dumps(record) for record in (AGENT, *records, {"type": "spent", "ns": 5})]
    text = "".join(line + "\n" for line in lines)
    end = f"end rc={rc} sha256={hashlib.sha256(text.encode()).hexdigest()}"
    return Answer((*lines, end), returncode=rc)


def sample(index: int) -> dict[str, object]:
    memory = {"start": MEMORY}
    return {"type": "sample", "index": index, "phases": {"a": {"ns": 1}}, "memory": memory}


GOOD = said(sample(0), sample(1))
CUT = Answer(GOOD.stdout[:-1])


class Scripted:
    """A channel that gives the answers that it was told to: faults on demand."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers = list(answers)
        self.sent: list[str] = []
        self.argvs: list[list[str]] = []
        self.closed = 0

    def put(self, file: Path) -> str:
        self.sent.append(file.name)
        return f"/there/{len(self.sent)}-{file.name}"

    def run(self, argv: Sequence[str], deadline: float) -> Answer:
        self.argvs.append(list(argv))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def agent(tmp_path: Path) -> Binary:
    path = tmp_path / "agent"
    path.write_text("the agent")
    return Binary(path, file_digest(path).hex(), "cc 1.0", "x86_64")


@pytest.fixture
def state(tmp_path: Path) -> SessionState:
    return SessionState.create(tmp_path / "cache")


def cell(name: str = "program", pattern: str = "byte:0xAA", mechanism: str = "memset") -> Cell:
    steps = (
        Phase("map"),
        Map(0, SIZE),
        Phase("touch"),
        Touch(0, 0, SIZE, "write", 16384),
        Phase(),
        Measure("touch"),
        Expect(0, 1, 1),
    )
    parsed = Pattern.parse(pattern)
    return Cell(f"program:{name}", Spec.parse(mechanism), parsed, Program(name, steps))


def test_a_run_has_the_samples_and_the_times(agent: Binary, state: SessionState) -> None:
    channel = Scripted(GOOD)
    with AgentSession(channel, agent=agent, state=state, arguments=("--scratch", "/s")) as session:
        run = session.run(cell(), 1, 10)
    assert run.failure is None
    assert [item.index for item in run.samples] == [0, 1]
    assert run.agent_ns == 5
    assert run.wall_ns > 0
    assert run.started.endswith("+00:00")
    assert run.facts["cpu"] == "1"
    assert "retries" not in run.facts
    argv = channel.argvs[0]
    assert argv[0] == "/there/1-agent"
    assert argv[argv.index("--mechanism") + 1] == "memset"
    assert argv[argv.index("--iterations") + 1] == "1"
    assert argv[argv.index("--thp") + 1] == "off"
    assert argv[-2:] == ["--scratch", "/s"]


def test_the_same_content_is_sent_once(agent: Binary, state: SessionState, tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.write_bytes(b"page")
    channel = Scripted(GOOD, GOOD, GOOD, GOOD)
    with AgentSession(channel, agent=agent, state=state) as session:
        session.run(cell(), 1, 10)
        session.run(cell(), 1, 10)
        session.run(cell("other", f"file:{page}"), 1, 10)
        session.run(cell("other", f"file:{page}"), 1, 10)
    assert len(channel.sent) == 4
    assert channel.sent[0] == "agent"
    assert channel.sent.count("page") == 1
    programs = [argv[argv.index("--program") + 1] for argv in channel.argvs]
    assert programs[0] == programs[1] != programs[2] == programs[3]
    argv = channel.argvs[-1]
    assert argv[argv.index("--pattern-file") + 1].endswith("page")


def test_a_failure_of_the_cell_is_returned_and_not_retried(
    agent: Binary, state: SessionState
) -> None:
    wrong = {"type": "failure", "kind": "wrong-content", "message": "byte 3 is 0"}
    channel = Scripted(said(sample(0), wrong, rc=3))
    with AgentSession(channel, agent=agent, state=state) as session:
        run = session.run(cell(), 1, 10)
    assert run.failure is not None
    assert (run.failure.kind, run.failure.message) == ("wrong-content", "byte 3 is 0")
    assert run.samples == ()


def test_a_crash_is_not_retried_and_keeps_the_standard_error(
    agent: Binary, state: SessionState
) -> None:
    channel = Scripted(Answer((), ("what it said",), signal=signal.SIGSEGV))
    with AgentSession(channel, agent=agent, state=state) as session:
        run = session.run(cell(), 1, 10)
    assert run.failure is not None
    assert run.failure.kind == "crashed"
    assert run.failure.log == ("what it said",)


def test_transient_failures_are_retried_and_recorded(agent: Binary, state: SessionState) -> None:
    channel = Scripted(CUT, ConnectionResetError("gone"), GOOD)
    with AgentSession(channel, agent=agent, state=state) as session:
        run = session.run(cell(), 1, 10)
    assert run.failure is None
    assert run.facts["retries"] == "2"
    assert "gone" in run.facts["retried-for"]


def test_retries_are_bounded(agent: Binary, state: SessionState) -> None:
    channel = Scripted(*[CUT] * 10)
    with AgentSession(channel, agent=agent, state=state) as session:
        run = session.run(cell(), 1, 10)
    assert run.failure is not None
    assert run.failure.kind == "no-answer"
    assert run.facts["retries"] == str(RETRIES)
    assert len(channel.argvs) == RETRIES + 1


def test_a_passed_deadline_leaves_no_time_to_retry(agent: Binary, state: SessionState) -> None:
    late = Answer((), signal=signal.SIGKILL, deadline_passed=True)
    channel = Scripted(late, GOOD)
    with AgentSession(channel, agent=agent, state=state) as session:
        run = session.run(cell(), 1, 0)
    assert run.failure is not None
    assert "deadline" in run.failure.message
    assert len(channel.argvs) == 1


def test_a_target_that_stays_away_ends_the_session(agent: Binary, state: SessionState) -> None:
    channel = Scripted(*[ConnectionResetError("gone")] * 10)
    with (
        AgentSession(channel, agent=agent, state=state) as session,
        pytest.raises(BackendError, match="lost"),
    ):
        session.run(cell(), 1, 10)
    assert len(channel.argvs) == RETRIES + 1


def test_capabilities_come_from_the_probe_and_are_asked_for_once(
    agent: Binary, state: SessionState
) -> None:
    no = {"type": "mechanism", "name": "ksm", "ok": False, "reason": "off", "remedy": "on"}
    yes = {"type": "mechanism", "name": "anon", "ok": True, "reason": "", "remedy": ""}
    channel = Scripted(said(no, yes))
    with AgentSession(channel, agent=agent, state=state) as session:
        found = session.capabilities()
        assert session.capabilities() is found
    assert (found.kernel, found.arch, found.page_size) == ("6.18", "x86_64", 4096)
    assert found.mechanisms["anon"].ok
    assert (found.mechanisms["ksm"].ok, found.mechanisms["ksm"].reason) == (False, "off")
    assert found.environment["agent"] == agent.digest[:16]
    assert found.environment["compiler"] == "cc 1.0"
    assert not found.metrics["cgroup"].ok


def test_an_agent_that_does_not_run_there_is_a_backend_error(
    agent: Binary, state: SessionState
) -> None:
    channel = Scripted(Answer((), ("not found",), returncode=127))
    with (
        AgentSession(channel, agent=agent, state=state) as session,
        pytest.raises(BackendError, match="does not run"),
    ):
        session.capabilities()


def test_close_gives_everything_back_and_may_be_called_twice(
    agent: Binary, state: SessionState
) -> None:
    channel = Scripted(GOOD)
    session = AgentSession(channel, agent=agent, state=state)
    session.run(cell(), 1, 10)
    assert list(state.files.iterdir())
    session.close()
    session.close()
    assert channel.closed
    assert not state.files.exists()
    with pytest.raises(BackendError, match="closed"):
        session.run(cell(), 1, 10)


class Shell:
    """A whole channel, as a plugin would write it."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def put(self, file: Path) -> str:
        there = self.place / file.name
        there.write_bytes(file.read_bytes())
        there.chmod(0o755)
        return str(there)

    def run(self, argv: Sequence[str], deadline: float) -> Answer:
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=deadline)
        except subprocess.TimeoutExpired:
            return Answer((), deadline_passed=True)
        return Answer(
            tuple(done.stdout.splitlines()),
            tuple(done.stderr.splitlines()),
            returncode=max(done.returncode, 0),
            signal=max(-done.returncode, 0),
        )

    def close(self) -> None:
        pass


@pytest.mark.skipif(not compiler_probe().ok, reason="no C compiler here")
def test_a_channel_is_all_that_a_backend_needs(tmp_path: Path) -> None:
    with AgentSession(Shell(tmp_path)) as session:
        found = session.capabilities()
        assert found.mechanisms["memset"].ok
        run = session.run(cell(), 2, 60)
    assert run.failure is None
    assert len(run.samples) == 3
    filled = run.samples[1].memory["touch"]
    assert filled.rss >= SIZE
    assert run.samples[1].phases["map"].faults >= SIZE // found.page_size
