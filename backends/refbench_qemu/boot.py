"""From a kernel to a guest that serves: what it is booted with, and one boot of it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from refbench.agent import Binary, build_guest, build_launcher
from refbench.closing import Closing
from refbench.errors import BackendError
from refbench.vm import initramfs
from refbench.vm.guard import Finding, Guard
from refbench.vm.kernels import Kernel
from refbench.vm.machine import Machine
from refbench.vm.spec import MachineSpec
from refbench_qemu.port import GuestPort, RefusedError, SilentGuestError

BOOT_SECONDS = 120.0
"""How long a guest may take from QEMU's start to its first words."""
ALIGNMENT = 10
"""Programs start at multiples of so many seconds of the guest's clock: the least that vmstat (1 s),
the flushing of cgroup statistics (2 s) and writeback (5 s) all divide."""
ALIGNMENT_FRESH = 20
"""The same where each starts from one snapshot. A guest is up after some seconds of its clock, and
before twenty even on a slow host: so all programs start in the same second."""
FILES = "/tmp"  # noqa: S108 - the guest's own
"""Where the guest has room for files, in memory."""
SCRATCH = f"{FILES}/scratch"
"""The scratch directory of agents, made by native/guest/mounts.c: in memory, or on a disk."""
_DISK = "/dev/ram0"
PRISTINE = "pristine"
"""The snapshot of a guest in which nothing has run yet."""
_SHOWN = 8
_ZRAM = "/sys/block/zram0"


@dataclass(frozen=True, slots=True)
class Module:
    """A kernel module to load, with its arguments."""

    path: Path
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a guest is made of: every boot of one recipe is the same guest."""

    kernel: Kernel
    spec: MachineSpec
    guest: Binary
    launcher: Binary
    modules: tuple[Module, ...] = ()
    swap: int = 0
    """Bytes of compressed swap (zram)."""
    settings: tuple[tuple[str, str], ...] = ()
    """Paths under /proc and /sys, and values; one that the kernel does not take is noted."""


def initial_files(arch: str) -> tuple[Path, Binary, Binary]:
    """The initial file system of a guest of ``arch``, its first process and its launcher.

    :raises BackendError: without a compiler for it.
    """
    guest, launcher = build_guest(arch), build_launcher(arch)
    files = {"init": guest.path, "launcher": launcher.path}
    return initramfs.build(files), guest, launcher


class Guest(Closing):
    """One boot of ``recipe``. Its files go to ``folder``, which must not exist yet; ``files`` are
    brought before anything else, and so are part of a snapshot: paths there to files here.

    :raises BackendError: when it does not come up, with what its console said last.
    """

    def __init__(self, recipe: Recipe, folder: Path, mark: str, files: Mapping[str, Path]) -> None:
        folder.mkdir()
        self.recipe = recipe
        self.machine = Machine(recipe.spec, folder, mark=mark)
        self.guard = Guard(self.machine.console)
        self.has: set[str] = set()
        """Paths of the files that were brought."""
        self._set: dict[str, str] = {}
        self._rests = False
        self.refused: dict[str, str] = {}
        """Settings that the kernel refused, with the reason."""
        try:
            self.machine.start()
            self.port = GuestPort(self.machine.port)
            self._settle(files)
        except BaseException:
            self.machine.kill()
            raise

    def close(self) -> None:
        """End the guest; may be called twice."""
        self.machine.close()

    def faults(self) -> tuple[Finding, ...]:
        """What the guard found since it was asked last."""
        return self.guard.look()

    def silence(self, error: SilentGuestError) -> Finding:
        """What to tell of a guest that does not answer."""
        try:
            status = self.machine.qmp.status()
        except ConnectionError:
            status = self.machine.why()
        return self.guard.silence(error.waited, status)

    def set(self, settings: Mapping[str, str]) -> None:
        """Write the settings that are not so already.

        :raises RefusedError: when the kernel does not take one.
        """
        for path, value in settings.items():
            if self._set.get(path) != value:
                self.port.write(path, value)
                self._set[path] = value

    def bring(self, path: str, content: Path) -> None:
        """Write a file there, once."""
        if path not in self.has:
            self.port.put(path, 0o755, content.read_bytes())
            self.has.add(path)

    def attach(self, disk: Path) -> None:
        """Have the scratch directory on a disk, in memory, of that content: an ext2 file system.

        A kernel without such disks, or with smaller ones, keeps the directory that it has.
        """
        if SCRATCH in self.has:
            return
        self.has.add(SCRATCH)
        try:
            self.port.put(_DISK, 0o600, disk.read_bytes())
            self.port.mount("ext2", _DISK, SCRATCH)
        except RefusedError as error:
            self.refused[SCRATCH] = str(error)

    def save(self) -> None:
        """Keep the guest as it is now."""
        self.machine.save(PRISTINE)
        self._saved = frozenset(self.has)

    def rest(self) -> None:
        """Stop a guest that waits awake, until :meth:`wake`: it would keep a processor busy."""
        if self.recipe.spec.icount and self.machine.running:
            # A QEMU that has just been ended is found to be gone by the next call.
            with contextlib.suppress(ConnectionError):
                self.machine.stop()
                self._rests = True

    def wake(self) -> None:
        """Let it go on."""
        if self._rests:
            self.machine.cont()
            self._rests = False

    def restore(self) -> None:
        """Bring back what :meth:`save` kept."""
        self.machine.load(PRISTINE)
        self.has = set(self._saved)
        self._set = {}

    def _settle(self, files: Mapping[str, Path]) -> None:
        try:
            self.refused = self.port.ready(BOOT_SECONDS)
            for module in self.recipe.modules:
                path = f"{FILES}/{module.path.name}"
                self.port.put(path, 0o644, module.path.read_bytes())
                self.port.module(path, module.arguments)
            if self.recipe.swap:
                self._swap(self.recipe.swap)
            for there, here in files.items():
                self.bring(there, here)
            for path, value in self.recipe.settings:
                self._try(path, value)
            self.boot_faults = self.faults()
            if self.recipe.spec.snapshots:
                self.save()
        except (ConnectionError, SilentGuestError, RefusedError) as error:
            self.machine.quit()
            raise BackendError(
                f"The guest of the kernel {self.recipe.kernel.name} did not come up: {error}. "
                f"{self._last_words()}\n",
                remedy="Check that the kernel has what the config `minimal` has, and the options.",
            ) from error

    def _last_words(self) -> str:
        faults = self.faults()
        if faults:
            return f"Its kernel said: {faults[0].headline}"
        said = [line for line in self.machine.console.lines() if line.strip()]
        return "Its console said last:\n" + ("\n".join(said[-_SHOWN:]) or "nothing at all")

    def _try(self, path: str, value: str) -> None:
        try:
            self.port.write(path, value)
        except RefusedError as error:
            self.refused[path] = str(error)

    def _swap(self, size: int) -> None:
        self.port.write(f"{_ZRAM}/disksize", str(size))
        self.port.swap("/dev/zram0")
