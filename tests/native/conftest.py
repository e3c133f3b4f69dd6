"""The agent, compiled once, and ways to let it do a program."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from refbench.backend import Answer
from refbench.protocol import Report, parse

NATIVE = Path(__file__).resolve().parents[2] / "src" / "refbench" / "native"
RECIPE = ["-std=c11", "-O2", "-static", "-pthread", "-D_GNU_SOURCE", f"-I{NATIVE}"]
STRICT = ["-Wall", "-Wextra", "-Wshadow", "-Wvla", "-Werror"]
SECONDS = 60

Build = Callable[..., Path]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Ask = Callable[..., Report]


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
