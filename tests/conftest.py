"""What every test may ask for: who runs it, a cache that is filled once, the command line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from tests.kernels import show

ROOT = Path(__file__).resolve().parent.parent
COMMAND = Path(sys.executable).with_name("refbench")
NOBODY = 65534

Install = Callable[..., Path]
Refbench = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_configure(config: pytest.Config) -> None:
    """No test inherits what the person who runs it has set for refbench.

    REFBENCH_TEST_CACHE is a folder that keeps built agents between runs. They are found there by
    the hash of everything that they are made of, so that a kept one is never an old one.
    """
    kept = {"REFBENCH_TEST_CACHE", "REFBENCH_ACCEL"}
    for name in [n for n in os.environ if n.startswith("REFBENCH_") and n not in kept]:
        del os.environ[name]
    os.environ["NO_COLOR"] = "1"
    os.environ.pop("FORCE_COLOR", None)


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long the tests go on that kill things or draw random programs."""
    parser.addoption(
        "--moments",
        type=int,
        default=5,
        help="at how many seeded moments a process is killed (make chaos: 50)",
    )
    parser.addoption(
        "--programs",
        type=int,
        default=200,
        help="how many random programs the simulator and this machine are compared on",
    )
    parser.addoption(
        "--guest-programs",
        type=int,
        default=24,
        help="how many random programs the simulator and the patched kernel are compared on",
    )
    parser.addoption(
        "--programs-seed",
        type=int,
        default=None,
        help="the seed of the random programs; without it a fresh one, which is printed",
    )


@pytest.fixture(scope="session")
def moments(pytestconfig: pytest.Config) -> int:
    """At how many seeded moments a process is to be killed."""
    value = pytestconfig.getoption("--moments")
    assert isinstance(value, int)
    return value


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return ROOT


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The artefact cache of this test session, also exported as REFBENCH_CACHE. Kernels are those
    of the user's own.

    The folder for the tracebacks of defects is one of this session's, too.
    """
    kept = os.environ.get("REFBENCH_TEST_CACHE")
    path = Path(kept) if kept else tmp_path_factory.mktemp("cache")
    path.mkdir(parents=True, exist_ok=True)
    show(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFBENCH_CACHE", str(path))
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield path


@pytest.fixture
def as_root() -> None:
    """Skips the test for an ordinary user."""
    if os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.fixture
def as_user() -> None:
    """Skips the test for root."""
    if os.geteuid() == 0:
        pytest.skip("examines what an ordinary user gets; `make test` repeats it as one")


@pytest.fixture(scope="session")
def user_prefix() -> Sequence[str]:
    """What to put before a command to run it as an ordinary user; empty when we are one."""
    if os.geteuid() != 0:
        return ()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("setpriv (util-linux) is not installed")
    return (
        setpriv,
        f"--reuid={NOBODY}",
        f"--regid={NOBODY}",
        "--clear-groups",
        "--no-new-privs",
        "--inh-caps=-all",
    )


@pytest.fixture
def user_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty folder that both root and the ordinary user can reach and write.

    pytest's own temporary folders are closed to everybody but the one who runs it.
    """
    with tempfile.TemporaryDirectory(prefix="refbench-test-") as name:
        path = Path(name)
        path.chmod(0o777)
        yield path


@pytest.fixture(scope="session")
def refbench() -> Refbench:
    """Run the command line in a process of its own.

    ``refbench("run", "-w", "sparse-touch", env={...}, timeout=60)``; environment variables
    are added to ours, a value of None removes one. The return code is for the test to judge.
    """

    def run(
        *arguments: str | os.PathLike[str],
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        timeout: float = 100,
        prefix: Sequence[str] = (),
    ) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **{k: v for k, v in (env or {}).items() if v is not None}}
        for name in [name for name, value in (env or {}).items() if value is None]:
            environment.pop(name, None)
        return subprocess.run(
            [*prefix, str(COMMAND), *[os.fspath(argument) for argument in arguments]],
            capture_output=True,
            text=True,
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
        )

    return run


@pytest.fixture(scope="session")
def install(tmp_path_factory: pytest.TempPathFactory) -> Install:
    """Install distributions for real and return the folder that they are in.

    ``refbench(..., env={"PYTHONPATH": str(install(one, other))})`` runs with them. Nothing is
    downloaded, and nothing is written where the sources are.
    """

    def run(*sources: Path) -> Path:
        work = tmp_path_factory.mktemp("installed")
        copies = [
            shutil.copytree(
                source,
                work / "sources" / source.name,
                ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"),
            )
            for source in sources
        ]
        target = work / "target"
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
            + ["--no-build-isolation", "--disable-pip-version-check", "--target", str(target)]
            + [str(copy) for copy in copies],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=110,
        )
        assert done.returncode == 0, done.stderr
        return target

    return run
