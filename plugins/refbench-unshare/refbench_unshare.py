"""The backend ``unshare``: every run in fresh user and PID namespaces, as in a container."""

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from refbench.agent_session import AgentSession
from refbench.backend import Answer, Backend, Session, lines
from refbench.grammar import Option, Values
from refbench.hookspecs import hookimpl
from refbench.words import AVAILABLE, Availability

refbench_api_version = 1

ISOLATED = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")


class UnshareChannel:
    """Files are where they were; programs run behind unshare(1)."""

    def put(self, file: Path) -> str:
        return str(file.resolve())

    def run(self, argv: Sequence[str], deadline: float) -> Answer:
        try:
            done = subprocess.run(
                [*ISOLATED, *argv], capture_output=True, timeout=deadline, check=False
            )
        except subprocess.TimeoutExpired:  # unshare was killed, and by --kill-child the agent
            return Answer((), deadline_passed=True)
        code = done.returncode  # below 0: the number of a signal
        return Answer(lines(done.stdout), lines(done.stderr), max(code, 0), signal=max(-code, 0))

    def close(self) -> None:
        """Nothing is left open between runs."""


class Unshare:
    name = "unshare"
    summary = "this machine, in fresh user and PID namespaces"
    options: Sequence[Option] = ()

    def probe(self) -> Availability:
        try:
            subprocess.run([*ISOLATED, "true"], check=True, capture_output=True, timeout=10)
        except (OSError, subprocess.SubprocessError) as error:
            return Availability(False, f"unshare(1) failed: {error}", "Allow user namespaces.")
        return AVAILABLE

    def open(self, options: Values) -> Session:
        return AgentSession(UnshareChannel())


@hookimpl
def refbench_backends() -> Iterable[Backend]:
    return (Unshare(),)
