"""What a virtual machine is to be, and the QEMU command that makes it so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from refbench.errors import UsageError

PORT = "org.refbench.port"
"""The name of the virtio-serial port; a guest finds it in ``/sys/class/virtio-ports/*/name``."""

_MICROVM = "microvm,acpi=off,x-option-roms=off,isa-serial=on,auto-kernel-cmdline=on"
_MACHINES = {"x86_64": _MICROVM, "arm64": "virt"}
_CPUS = {
    # String instructions count once per iteration on the instruction clock: with ERMS, clearing
    # a page would count eight times as much as copying it.
    "x86_64": "max,-erms,-fsrm",
    "arm64": "max",
}
_WORDS = {
    "x86_64": ("console=ttyS0", "8250.nr_uarts=1", "reboot=t", "tsc=reliable", "no_timer_check"),
    "arm64": ("console=ttyAMA0",),
}
_COUNTED_WORDS = {
    # The time stamp counter counts QEMU's nanoseconds.
    "x86_64": ("tsc_early_khz=1000000",),
    "arm64": (),
}
_TRANSLATED_WORDS = {
    # To measure the local APIC's timer takes half a minute on the instruction clock (each PAUSE
    # of the loop leaves the translated code), and goes wrong now and then on a busy machine, so
    # that one boot has the timer and another has not. The PIT serves a single CPU.
    "x86_64": ("nolapic_timer",),
    "arm64": (),
}
_COMMON = ("panic=-1", "nokaslr", "random.trust_cpu=on", "loglevel=5")


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """A virtual machine: all that decides how its guest behaves.

    ``kernel`` and ``initrd``: images; ``append``: further words of the kernel's command line, which
    win over ours; ``memory``: bytes; ``cpu`` and ``machine``: QEMU's names with their options
    (``q35``, ``virt,mte=on``), empty for the quickest for ``arch``; ``icount``: the virtual clock
    counts instructions, a nanosecond each; ``seed``: of everything that is random; ``port``:
    whether there is a virtio-serial port :data:`PORT`; ``snapshots``: whether
    :meth:`~refbench.vm.machine.Machine.save` will be asked for; ``extra``: further arguments for
    QEMU.

    :raises UsageError: for an architecture that has no emulator here, and an instruction clock
        with more than one CPU or with hardware virtualisation.
    """

    kernel: Path
    initrd: Path | None = None
    arch: str = "x86_64"
    append: tuple[str, ...] = ()
    cpus: int = 1
    memory: int = 512 << 20
    cpu: str = ""
    machine: str = ""
    accel: str = "tcg"
    icount: bool = False
    seed: int = 1
    port: bool = True
    snapshots: bool = False
    extra: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.arch not in _MACHINES:
            raise UsageError(
                f"There is no virtual machine of the architecture {self.arch!r}.",
                remedy=f"There are {' and '.join(_MACHINES)}.",
            )
        if self.icount and self.cpus != 1:
            raise UsageError(
                f"The instruction clock needs one CPU, and {self.cpus} were asked for.",
                remedy="Ask for one CPU, or for the real clock.",
            )
        if self.icount and self.accel != "tcg":
            raise UsageError(
                f"The instruction clock needs QEMU's own translator, and not {self.accel}.",
                remedy="Set REFBENCH_ACCEL=tcg, or ask for the real clock.",
            )

    @property
    def command_line(self) -> str:
        """The kernel's command line, without what QEMU itself adds for its devices."""
        words = [*_WORDS[self.arch], *_COMMON]
        if self.icount:
            words += _COUNTED_WORDS[self.arch]
        if self.accel == "tcg" and self.cpus == 1:
            words += _TRANSLATED_WORDS[self.arch]
        return " ".join((*words, *self.append))

    def arguments(self, folder: Path, monitor: int, port: int) -> tuple[str, ...]:
        """QEMU's arguments without the program.

        ``folder`` is for the console's log, ``console.log``;
        ``monitor`` and ``port`` are descriptors of connected sockets that QEMU inherits.
        """
        machine = self.machine or _MACHINES[self.arch]
        words = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        # Where this machine merges pages, it would merge a guest's with those of its own agents.
        words += ["-machine", f"{machine},mem-merge=off", "-accel", self._accel(machine)]
        words += ["-cpu", self.cpu or _CPUS[self.arch], "-smp", str(self.cpus)]
        words += ["-m", f"size={self.memory >> 10}k", "-seed", str(self.seed)]
        words += ["-rtc", "base=2020-01-01T00:00:00,clock=vm"]
        if self.icount:
            words += ["-icount", "shift=0,sleep=off"]
        words += ["-kernel", str(self.kernel), "-append", self.command_line]
        if self.initrd is not None:
            words += ["-initrd", str(self.initrd)]
        words += ["-chardev", f"socket,id=monitor,fd={monitor}"]
        words += ["-mon", "chardev=monitor,mode=control"]
        # A file takes every byte at once: a slow reader would change the guest's timing.
        words += ["-chardev", f"file,id=console,path={_quoted(folder / 'console.log')}"]
        words += ["-serial", "chardev:console"]
        if self.port:
            words += ["-chardev", f"socket,id=port,fd={port}"]
            words += ["-device", self._virtio("virtio-serial", machine)]
            words += ["-device", f"virtserialport,chardev=port,name={PORT}"]
        return (*words, *self.extra)

    def _accel(self, machine: str) -> str:
        if self.accel == "tcg" and self.icount:
            return "tcg,thread=single"
        return self.accel

    @staticmethod
    def _virtio(device: str, machine: str) -> str:
        bus = "pci" if machine.partition(",")[0] in ("q35", "pc") else "device"
        return f"{device}-{bus}"


def _quoted(path: Path) -> str:
    """A path inside one of QEMU's lists of options."""
    return str(path).replace(",", ",,")
