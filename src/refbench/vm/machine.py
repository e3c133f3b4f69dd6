"""One QEMU process: its guest's console, its port, its monitor, and its end.

QEMU inherits connected sockets, so no path, port or address of it exists that another could meet.
It dies with refbench, whatever ends that; should it not, the mark that it carries lets the
next command find it (:mod:`refbench.housekeeping`).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from refbench.closing import Closing
from refbench.errors import BackendError
from refbench.processes import MARK
from refbench.vm.clocks import tsc_khz
from refbench.vm.console import Console
from refbench.vm.qmp import Qmp, loop
from refbench.vm.spec import MachineSpec

_PROGRAMS = {"x86_64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}
_PACKAGES = {"x86_64": "qemu-system-x86", "arm64": "qemu-system-arm"}
_VERSION = re.compile(r"version (\d+(?:\.\d+)+)")
_START_SECONDS = 30.0
_QUIT_SECONDS = 5.0
_DEATH_SECONDS = 30.0
_SNAPSHOT_SECONDS = 120.0
_LOOK_AGAIN = 0.005
_SHOWN = 6
_SNAPSHOT_NODE = "snapshots"


def find_qemu(arch: str) -> str:
    """The QEMU for guests of ``arch``: ``REFBENCH_QEMU``, else the one on the PATH.

    :raises BackendError: when there is none.
    """
    wanted = os.environ.get("REFBENCH_QEMU", "") or _PROGRAMS[arch]
    found = shutil.which(wanted)
    if found is None:
        raise BackendError(
            f"QEMU for {arch}, {wanted}, is not installed.",
            remedy=f"Install it: apt-get install {_PACKAGES[arch]}; or set REFBENCH_QEMU.",
        )
    return found


def qemu_version(program: str) -> str:
    """The version of a QEMU, as ``7.2.22``.

    :raises BackendError: when it does not say it.
    """
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackendError(
            f"{program} cannot be run: {error}.", remedy="Install QEMU again."
        ) from error
    found = _VERSION.search(done.stdout)
    if found is None:
        raise BackendError(
            f"{program} does not tell its version.", remedy="Unset REFBENCH_QEMU, or name a QEMU."
        )
    return found[1]


def _complete(spec: MachineSpec) -> MachineSpec:
    """``spec`` with the rate of the translator's time stamp counter for a guest that cannot
    measure it: on a busy machine it fails, and counts time in steps of 10 ms ever after."""
    if spec.arch != "x86_64" or spec.accel != "tcg" or spec.icount:
        return spec
    rate = tsc_khz()
    return replace(spec, append=(f"tsc_early_khz={rate}", *spec.append)) if rate else spec


class Machine(Closing):
    """A guest as ``spec`` describes it. Nothing runs before :meth:`start`.

    ``folder``: an empty directory of this machine's own, for its log and its snapshots; ``mark``:
    what QEMU carries in its environment (:attr:`refbench.housekeeping.SessionState.mark`).

    All calls belong to one thread. A method raises ConnectionError when QEMU is gone; its
    text then says why.
    """

    def __init__(self, spec: MachineSpec, folder: Path, *, mark: str = "") -> None:
        self.spec = spec
        self.folder = folder
        self.console = Console(folder / "console.log")
        self._mark = mark
        self._process: subprocess.Popen[bytes] | None = None
        self._qmp: Qmp | None = None
        self._port: socket.socket | None = None

    @property
    def qmp(self) -> Qmp:
        """The monitor."""
        if self._qmp is None:
            raise self._not_running("qmp")
        return self._qmp

    @property
    def port(self) -> socket.socket:
        """Our end of the guest's virtio-serial port, a connected stream socket.

        It ends (reads nothing) when QEMU does.
        """
        if self._port is None:
            raise self._not_running("port")
        return self._port

    @property
    def pid(self) -> int:
        """QEMU's pid; 0 before :meth:`start` and after the end."""
        return self._process.pid if self._process is not None and self.running else 0

    @property
    def running(self) -> bool:
        """Whether QEMU lives."""
        return self._process is not None and self._process.poll() is None

    def start(self, seconds: float = _START_SECONDS) -> None:
        """Start QEMU; the guest begins to boot.

        :raises BackendError: when there is no QEMU, or it ends at once, with what it says.
        """
        program = find_qemu(self.spec.arch)
        monitor, monitor_there = socket.socketpair()
        port, port_there = socket.socketpair()
        try:
            inherited = (monitor_there.fileno(), port_there.fileno())
            argv = [program, *_complete(self.spec).arguments(self.folder, *inherited)]
            self._process = loop().call(lambda: self._spawn(argv, inherited), seconds)
        except BaseException:
            monitor.close()
            port.close()
            raise
        finally:
            monitor_there.close()
            port_there.close()
        self._port = port
        try:
            self._qmp = Qmp(monitor, seconds)
        except ConnectionError as error:
            reason = self.why() if self._ended(_QUIT_SECONDS) else str(error)
            self.kill()
            raise BackendError(
                f"QEMU did not start: {reason}.",
                remedy="Check the options of the target; `qemu` may be too old for them.",
            ) from error
        if self.spec.snapshots:
            try:
                self._make_disc()
            except BaseException:
                self.kill()
                raise

    def wait_console(self, pattern: str, seconds: float) -> str:
        """The first line of the console that ``pattern`` (a regular expression) is found in.

        :raises ConnectionError: when QEMU ends before, or the line does not come in time.
        """
        wanted = re.compile(pattern)
        end = time.monotonic() + seconds
        seen = 0
        while True:
            alive = self.running
            now = self.console.lines(seen)
            for line in now:
                if wanted.search(line):
                    return line
            seen += max(len(now) - 1, 0)
            if not alive:
                raise ConnectionError(self.why())
            if time.monotonic() > end:
                raise ConnectionError(
                    f"the guest's console did not show {pattern!r} in {seconds:.0f} s"
                )
            time.sleep(_LOOK_AGAIN)

    def stop(self) -> None:
        """Stop the guest's CPUs and its clock."""
        self.qmp.execute("stop")

    def cont(self) -> None:
        """Let a stopped guest go on."""
        self.qmp.execute("cont")

    def save(self, name: str) -> None:
        """Keep the whole state of the guest under ``name``; it goes on as it was.

        Nothing may be under way on the port: what is, is no part of a snapshot.

        :raises BackendError: when the machine has no place for snapshots, or QEMU fails.
        """
        self._snapshot("snapshot-save", tag=name, vmstate=_SNAPSHOT_NODE, devices=[_SNAPSHOT_NODE])

    def load(self, name: str) -> None:
        """Bring the guest back to what it was at :meth:`save`, its clock too, and let it run.

        :raises BackendError: when there is no such snapshot, or QEMU fails.
        """
        self.stop()
        self._snapshot("snapshot-load", tag=name, vmstate=_SNAPSHOT_NODE, devices=[_SNAPSHOT_NODE])
        self.cont()

    def quit(self, seconds: float = _QUIT_SECONDS) -> None:
        """End QEMU, politely at first; may be called twice."""
        if self.running and self._qmp is not None:
            with contextlib.suppress(ConnectionError, BackendError):
                self._qmp.execute("quit", seconds=seconds)
            self._ended(seconds)
        self.kill()

    def kill(self) -> None:
        """End QEMU at once; may be called twice."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait(_DEATH_SECONDS)
        if self._qmp is not None:
            self._qmp.close()
            self._qmp = None
        if self._port is not None:
            self._port.close()
            self._port = None

    def close(self) -> None:
        """End QEMU; may be called twice. The folder stays."""
        self.kill()

    def why(self) -> str:
        """Why QEMU is not there, for people: how it ended and what it said last."""
        if self._process is None:
            return "QEMU was not started"
        code = self._process.poll()
        if code is None:
            return "QEMU runs"
        if code < 0:
            how = f"QEMU was ended by {signal.Signals(-code).name}"
        elif code:
            how = f"QEMU ended with status {code}"
        else:
            how = "the guest ended"
        said = self._said()
        return f"{how}: {said}" if said else how

    def _said(self) -> str:
        """The end of QEMU's own messages."""
        try:
            text = (self.folder / "qemu.log").read_text(errors="replace")
        except OSError:
            return ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return "; ".join(lines[-_SHOWN:])

    def _snapshot(self, command: str, **arguments: object) -> None:
        if not self.spec.snapshots:
            raise BackendError(
                f"This machine cannot do {command}: it was made without a place for snapshots.",
                remedy="Ask for MachineSpec(snapshots=True).",
            )
        self.qmp.job(command, seconds=_SNAPSHOT_SECONDS, **arguments)

    def _make_disc(self) -> None:
        """A place for snapshots that the guest does not see."""
        path = str(self.folder / "snapshots")
        self.qmp.job("blockdev-create", options={"driver": "file", "filename": path, "size": 0})
        self.qmp.execute("blockdev-add", driver="file", filename=path, node_name="snapshots-file")
        options = {"driver": "qcow2", "file": "snapshots-file", "size": 1 << 20}
        self.qmp.job("blockdev-create", options=options)
        self.qmp.execute(
            "blockdev-add", driver="qcow2", file="snapshots-file", node_name=_SNAPSHOT_NODE
        )

    def _spawn(self, argv: Sequence[str], inherited: tuple[int, ...]) -> subprocess.Popen[bytes]:
        """In the loop's thread, because QEMU dies with the thread that starts it."""
        setpriv = shutil.which("setpriv")
        prefix = (setpriv, "--pdeathsig", "KILL", "--") if setpriv else ()
        with (self.folder / "qemu.log").open("wb") as log:
            return subprocess.Popen(
                [*prefix, *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "LC_ALL": "C", **({MARK: self._mark} if self._mark else {})},
                pass_fds=inherited,
                start_new_session=True,
            )

    def _ended(self, seconds: float) -> bool:
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        return not self.running

    def _not_running(self, what: str) -> ConnectionError:
        return ConnectionError(f"the machine has no {what}: {self.why()}")
