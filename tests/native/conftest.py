"""The agent, compiled once, and ways to let it do a program.

pytest has loaded this file as tests.native.conftest: test files import its types from there.
"""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import refbench.agent
from refbench.backend import Answer
from refbench.cache import Cache
from refbench.mechanisms import MECHANISMS
from refbench.program import Program, Step
from refbench.protocol import Report, parse
from refbench.samples import Failure, Observation, Sample

NATIVE = Path(__file__).resolve().parents[2] / "src" / "refbench" / "native"
RECIPE = ["-std=c11", "-O2", "-static", "-pthread", "-D_GNU_SOURCE", f"-I{NATIVE}"]
STRICT = ["-Wall", "-Wextra", "-Wshadow", "-Wvla", "-Werror"]
SECONDS = 60
PAGE = mmap.PAGESIZE
MIB = 1 << 20

Build = Callable[..., Path]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Ask = Callable[..., Report]


def observed(report: Report) -> tuple[Observation, ...]:
    """What the last sample saw; the run must have one."""
    assert report.failure is None, report.failure
    return report.samples[-1].observations


def touching(size: int, access: str, stride: int) -> str:
    """Map, touch, unmap, each in a phase of its own."""
    return f"""refbench-program 1
        phase map
        map 0 {size}
        phase -
        phase touch
        touch 0 0 {size} {access} {stride}
        phase -
        measure touch
        expect 0 1 {size - 1} pattern stride={stride} once
        unmap 0 0 0
    """


@dataclass(frozen=True)
class Agent:
    """Runs programs and gives back what the agent said."""

    path: Path
    folder: Path
    prefix: Sequence[str] = ()

    def __call__(
        self, program: str | Sequence[Step], mechanism: str, *, iterations: int = 1
    ) -> Report:
        """The report; the test is skipped where the mechanism needs what is not allowed here."""
        if not isinstance(program, str):
            program = Program("test", tuple(program), observe_all=True).text()
        file = self.folder / "test.program"
        file.write_text(program)
        argv = [*self.prefix, str(self.path), "--program", str(file), "--mechanism", mechanism]
        argv += ["--pattern", "byte:0xAA", "--iterations", str(iterations), "--thp", "off"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=100)
        lines = tuple(done.stdout.splitlines())
        return parse(Answer(lines, returncode=done.returncode, stderr=(done.stderr,)))

    def sample(self, program: str | Sequence[Step], mechanism: str) -> Sample:
        """The last sample of a run that ended well."""
        report = self(program, mechanism)
        if report.failure and report.failure.kind == "unsupported":
            pytest.skip(report.failure.message)
        assert report.failure is None, report.failure
        return report.samples[-1]

    def failure(self, program: str | Sequence[Step], mechanism: str) -> Failure:
        """The failure of a run that did not."""
        failure = self(program, mechanism).failure
        assert failure is not None
        return failure


@pytest.fixture(scope="session")
def build_agent(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Compiles the agent with a compiler's command and further flags."""

    def build(compiler: str, *flags: str) -> Path:
        out = tmp_path_factory.mktemp("agent") / "agent"
        out.parent.chmod(0o755)
        folders = ("agent", "mechanisms")
        sources = [str(c) for folder in folders for c in sorted((NATIVE / folder).glob("*.c"))]
        command = [compiler, *RECIPE, *STRICT, *flags, "-o", str(out)]
        command += [*sources, str(NATIVE / "library.c")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        assert not done.stderr
        return out

    return build


@pytest.fixture(scope="session")
def agent_path(build_agent: Build) -> Path:
    """The agent for this machine."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    return build_agent(compiler)


@pytest.fixture
def run_agent(agent_path: Path, tmp_path: Path) -> Run:
    """Runs the agent over a program's lines; the mechanism is ``anon`` unless it is said."""
    count = iter(range(1 << 20))

    def run(
        program: str | None = None,
        *arguments: str,
        mechanism: str | None = "anon",
        iterations: int = 1,
        under: tuple[str, ...] = (),
    ) -> subprocess.CompletedProcess[str]:
        argv = [*under, str(agent_path), "--scratch", str(tmp_path)]
        if program is not None:
            file = tmp_path / f"program-{next(count)}"
            file.write_text("refbench-program 1\n" + program, encoding="utf-8")
            argv += ["--program", str(file), "--iterations", str(iterations)]
        if mechanism is not None:
            argv += ["--mechanism", mechanism]
        return subprocess.run(
            [*argv, *arguments], capture_output=True, text=True, timeout=SECONDS, check=False
        )

    return run


@pytest.fixture
def ask_agent(run_agent: Run) -> Ask:
    """As ``run_agent``, but the answer is decoded, as strictly as a session does."""

    def ask(program: str | None = None, *arguments: str, **more: object) -> Report:
        done = run_agent(program, *arguments, **more)
        assert not done.stderr
        rc = done.returncode
        answer = Answer(tuple(done.stdout.splitlines()), returncode=max(rc, 0), signal=max(-rc, 0))
        report = parse(answer)
        assert (rc == 0) == (report.failure is None)
        return report

    return ask


@pytest.fixture(scope="session")
def page() -> int:
    """Bytes of a page here."""
    return os.sysconf("SC_PAGESIZE")


@pytest.fixture(scope="session")
def binary(cache: Path) -> Path:
    """The agent with our own mechanisms."""
    return refbench.agent.build_agent(cache=Cache(cache), mechanisms=MECHANISMS).path


@pytest.fixture
def agent(binary: Path, tmp_path: Path) -> Agent:
    """The agent as whoever runs the tests."""
    return Agent(binary, tmp_path)


@pytest.fixture
def user_agent(binary: Path, user_folder: Path, user_prefix: Sequence[str]) -> Agent:
    """The agent as an ordinary user."""
    path = Path(shutil.copy(binary, user_folder))
    path.chmod(0o755)
    return Agent(path, user_folder, user_prefix)
