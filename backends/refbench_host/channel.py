"""The channel to this machine: agents are started by a launcher that lives as long as it.

The launcher is the parent of every agent and the reaper of everything that agents leave. The
two talk over a SOCK_SEQPACKET pair; native/launcher/main.c describes the messages.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from refbench.backend import Answer
from refbench.errors import BackendError
from refbench.launched import Outcome
from refbench.processes import MARK, kill_marked

_READY_SECONDS = 30.0
_DEATH_SECONDS = 60.0
"""How long an agent that was killed may take to give back its memory."""
_CHUNK = 1 << 16
_MESSAGE = 256


class HostChannel:
    """Runs programs on this machine, one at a time.

    ``cpus``: where they may run (empty: anywhere); ``cgroup``: the directory of the cgroup that
    they join; ``mark``: what they carry in their environment, to be found again.

    :raises BackendError: when the launcher does not start.
    """

    def __init__(
        self,
        launcher: Path,
        *,
        cpus: Sequence[int] = (),
        cgroup: Path | None = None,
        mark: str | None = None,
    ) -> None:
        self._arguments = [str(launcher)]
        self._settings = [f"cpus={','.join(map(str, cpus))}"] if cpus else []
        self._settings += [f"cgroup={cgroup}"] if cgroup else []
        self._mark = mark or secrets.token_hex(8)
        self._launcher: _Launcher | None = None
        self.refused: dict[str, str] = {}
        """Settings that the kernel refused, with the reason."""
        self._start()

    @property
    def launcher_pid(self) -> int:
        """The pid of the launcher that runs now, 0 when there is none."""
        return self._launcher.process.pid if self._launcher else 0

    def put(self, file: Path) -> str:
        """The file is here already."""
        return str(file.resolve())

    def run(self, argv: Sequence[str], deadline: float) -> Answer:
        """Run a program and wait for it and all that it started, ``deadline`` seconds at most.

        :raises ConnectionError: when the launcher was killed; the next call starts a new one.
        """
        launcher = self._launcher or self._start()
        try:
            return launcher.run(argv, deadline)
        except BaseException as error:
            # Whatever it was (the launcher's end, Ctrl-C): nothing may go on running.
            self._launcher = None
            launcher.destroy()
            if isinstance(error, OSError):
                raise ConnectionError(f"the launcher ended ({error})") from error
            raise

    def close(self) -> None:
        """End what runs and the launcher; may be called twice."""
        launcher, self._launcher = self._launcher, None
        if launcher is not None:
            launcher.close()

    def _start(self) -> _Launcher:
        launcher = _Launcher(self._arguments, self._settings, self._mark)
        self._launcher = launcher
        try:
            self.refused = launcher.wait_ready()
        except OSError as error:
            self._launcher = None
            raise launcher.not_ready(error) from error
        return launcher


class _Launcher:
    """One launcher process and our end of its socket."""

    def __init__(self, arguments: list[str], settings: list[str], mark: str) -> None:
        self.mark = mark
        self.program = arguments[0]
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self.process = subprocess.Popen(
                [*arguments, str(theirs.fileno()), *settings],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"LC_ALL": "C", MARK: mark},
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except OSError as error:
            self.socket.close()
            raise BackendError(
                f"The launcher {arguments[0]} cannot be started: {error.strerror}.",
                remedy="Check that programs may be executed in the cache directory (noexec?).",
            ) from error
        finally:
            theirs.close()

    def wait_ready(self) -> dict[str, str]:
        """The settings that were refused.

        :raises OSError: when it ends or says nothing.
        """
        refused: dict[str, str] = {}
        self.socket.settimeout(_READY_SECONDS)
        while True:
            words = self._receive()
            if words[0] == "ready":
                self.socket.settimeout(None)
                return refused
            refused[words[1]] = os.strerror(int(words[2]))

    def not_ready(self, error: OSError) -> BackendError:
        """Give it up; what to tell of it."""
        ended = isinstance(error, ConnectionError)
        if ended:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_DEATH_SECONDS)
        code = self.process.returncode
        self.destroy()
        if not ended:
            what = f"it said nothing for {_READY_SECONDS:.0f} s"
            remedy = (
                "The machine is very busy, or stops the process: look at it with ps, try again."
            )
        elif code is not None and code < 0:
            what = f"{signal.Signals(-code).name} ended it before it was ready"
            remedy = "Try again; if it happens again, the kernel log says whether memory ran out."
        else:
            what = f"it ended with status {code} before it was ready"
            remedy = "Remove the file, so that it is built again; if that is no help, report it."
        return BackendError(f"The launcher {self.program} did not start: {what}.", remedy=remedy)

    def run(self, argv: Sequence[str], deadline: float) -> Answer:
        end = time.monotonic() + deadline
        out, out_there = os.pipe2(os.O_CLOEXEC)
        err, err_there = os.pipe2(os.O_CLOEXEC)
        try:
            message = "\0".join(["run", *argv, ""]).encode(errors="surrogateescape")
            try:
                socket.send_fds(self.socket, [message], [out_there, err_there])
            finally:
                os.close(out_there)
                os.close(err_there)
            outcome = Outcome()
            self._follow(outcome, out, err, end)
        finally:
            os.close(out)
            os.close(err)
        return outcome.answer()

    def _follow(self, outcome: Outcome, out: int, err: int, end: float) -> None:
        """Read until the program has ended and its pipes are empty."""
        poll = select.poll()
        texts = {out: outcome.texts[0], err: outcome.texts[1]}
        control = self.socket.fileno()
        for descriptor in (control, out, err):
            poll.register(descriptor, select.POLLIN)
        while texts or not outcome.status:
            left = end - time.monotonic()
            if left <= 0:
                end = self._too_late(outcome)
                continue
            for descriptor, _ in poll.poll(left * 1000):
                if descriptor == control:
                    if outcome.take(self._receive()):
                        poll.unregister(control)
                        end = time.monotonic() + _DEATH_SECONDS
                elif not _read(descriptor, texts[descriptor]):
                    poll.unregister(descriptor)
                    del texts[descriptor]
            if outcome.too_much:
                self.socket.send(b"kill")
                outcome.drop()

    def _too_late(self, outcome: Outcome) -> float:
        if outcome.late or outcome.status:
            raise TimeoutError("the agent did not die when it was killed")
        outcome.late = True
        self.socket.send(b"kill")
        return time.monotonic() + _DEATH_SECONDS

    def _receive(self) -> list[str]:
        message = self.socket.recv(_MESSAGE)
        if not message:
            raise ConnectionResetError("it closed its socket")
        return message.decode().split()

    def close(self) -> None:
        """The end of file tells it to end everything."""
        self.socket.close()
        try:
            self.process.wait(_DEATH_SECONDS)
        except subprocess.TimeoutExpired:
            self.destroy()

    def destroy(self) -> None:
        """Kill it and everything that it has started."""
        self.socket.close()
        self.process.kill()
        self.process.wait(_DEATH_SECONDS)
        kill_marked(self.mark, _DEATH_SECONDS)


def _read(descriptor: int, text: bytearray) -> bool:
    chunk = os.read(descriptor, _CHUNK)
    text += chunk
    return bool(chunk)
