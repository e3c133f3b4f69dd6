"""The kit for authors of backends: what is right passes, and every promise can be broken."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from refbench import testing
from refbench.agent import compiler_probe, host_arch
from refbench.backend import Answer, Channel, lines
from refbench.testing.channel import CHANNEL

if not compiler_probe().ok:
    pytest.skip("no C compiler here", allow_module_level=True)

LOST = "a lost connection is ConnectionError or no answer"
SHELL = ("/bin/sh", "-c", '"$@"; exit $?', "sh")
"""What starts the program and is there to be lost."""


class Local:
    """A right channel: programs behind a shell, in a process group of their own."""

    def put(self, file: Path) -> str:
        return str(file)

    def command(self, argv: Sequence[str]) -> Sequence[str]:
        return [*SHELL, *argv]

    def run(self, argv: Sequence[str], deadline: float) -> Answer:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            shell = subprocess.Popen(
                self.command(argv), stdout=out, stderr=err, start_new_session=True
            )
            late = False
            try:
                shell.wait(deadline)
            except subprocess.TimeoutExpired:
                late = True
                self.end(shell)
                shell.wait()
            out.seek(0)
            err.seek(0)
            return self.answer(out.read(), err.read(), shell.returncode, late)

    def end(self, shell: subprocess.Popen[bytes]) -> None:
        os.killpg(shell.pid, signal.SIGKILL)

    def answer(self, out: bytes, err: bytes, code: int, late: bool) -> Answer:
        number = max(-code, code - 128 if code in {128 + 9, 128 + 11} else 0, 0)
        return Answer(lines(out), lines(err), 0 if number else code, number, late)

    def close(self) -> None:
        """Nothing is open."""


class Overwrites(Local):
    there: Path | None = None

    def put(self, file: Path) -> str:
        self.there = self.there or Path(tempfile.mkdtemp(prefix="refbench-test-"))
        place = self.there / file.name
        place.write_bytes(file.read_bytes())
        place.chmod(0o755)
        return str(place)

    def close(self) -> None:
        if self.there is not None:
            shutil.rmtree(self.there)


class Unquoted(Local):
    def command(self, argv: Sequence[str]) -> Sequence[str]:
        return ["/bin/sh", "-c", " ".join(argv)]


class SplitsAnywhere(Local):
    def answer(self, out: bytes, err: bytes, code: int, late: bool) -> Answer:
        right = super().answer(out, err, code, late)
        text = tuple(out.decode(errors="surrogateescape").splitlines())
        return Answer(text, right.stderr, right.returncode, right.signal, late)


class OneStream(Local):
    def command(self, argv: Sequence[str]) -> Sequence[str]:
        return ["/bin/sh", "-c", f"{shlex.join(argv)} 2>&1; exit $?"]


class OnePipeful(Local):
    def answer(self, out: bytes, err: bytes, code: int, late: bool) -> Answer:
        return super().answer(out[: 1 << 16], err, code, late)


class AlwaysFine(Local):
    def answer(self, out: bytes, err: bytes, code: int, late: bool) -> Answer:
        return super().answer(out, err, code if code < 0 or code > 128 else 0, late)


class ShellsWord(Local):
    def answer(self, out: bytes, err: bytes, code: int, late: bool) -> Answer:
        number = max(-code, 0)
        return Answer(lines(out), lines(err), max(code, 0), number, late)


class Raises(Local):
    def run(self, argv: Sequence[str], deadline: float) -> Answer:
        subprocess.run(argv[:1], check=False, capture_output=True)
        return super().run(argv, deadline)


class LeavesChildren(Local):
    def __init__(self) -> None:
        self.left: list[int] = []

    def end(self, shell: subprocess.Popen[bytes]) -> None:
        self.left.append(shell.pid)
        shell.kill()

    def close(self) -> None:
        while self.left:
            os.killpg(self.left.pop(), signal.SIGKILL)


class BlamesTheAgent(Local):
    """A connection that is lost looks like the agent's own exit."""

    def answer(self, out: bytes, err: bytes, code: int, late: bool) -> Answer:
        right = super().answer(out, err, code, late)
        return Answer(right.stdout, right.stderr, 255) if code == -9 and not late else right


def broken(channel: Channel) -> set[str]:
    found = list(testing.examine_channel(channel, host_arch()))
    assert {item.promise for item in found} == set(CHANNEL)
    return {item.promise for item in found if item.broken}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refbench.testing.channel.LATE", 0.2)


def test_a_right_channel_passes() -> None:
    assert list(testing.examine_channel(Local(), host_arch())) == [
        testing.Finding(promise) for promise in CHANNEL
    ]


@pytest.mark.parametrize(
    ("channel", "promises"),
    [
        (Overwrites(), {"put() brings every byte over and keeps what is there"}),
        (Unquoted(), {"arguments arrive as they are"}),
        (SplitsAnywhere(), {"lines arrive as they are"}),
        (OneStream(), {"standard error is not mixed into standard output"}),
        (OnePipeful(), {"a megabyte on both streams arrives"}),
        (AlwaysFine(), {"the exit status arrives"}),
        (ShellsWord(), {"a signal arrives as a signal"}),
        (Raises(), {"a program that is not there is an answer, no exception"}),
        (LeavesChildren(), {"a late program is ended, with its children"}),
        (BlamesTheAgent(), {LOST}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Local) else "",
)
def test_a_broken_promise_is_found(channel: Local, promises: set[str]) -> None:
    try:
        assert promises <= broken(channel)
    finally:
        channel.close()


def test_a_program_that_refbench_itself_started_is_not_lost() -> None:
    class Direct(Local):
        def command(self, argv: Sequence[str]) -> Sequence[str]:
            return argv

        def run(self, argv: Sequence[str], deadline: float) -> Answer:
            try:
                return super().run(argv, deadline)
            except FileNotFoundError:
                return Answer((), returncode=127)

    found = {item.promise: item for item in testing.examine_channel(Direct(), host_arch())}
    assert "nothing but refbench" in found.pop(LOST).left_out
    assert not any(item.broken or item.left_out for item in found.values())


def test_the_host_keeps_every_promise() -> None:
    findings = list(testing.examine("host"))
    assert len(findings) > len(CHANNEL)
    assert not [item for item in findings if item.broken or item.left_out]
