"""How a guest's CPU runs: hardware virtualisation where a test boot proves it, else translation.

That ``/dev/kvm`` is there says little: nested virtualisation hangs, dies, or runs slower than
QEMU's translator. So the very guest is booted as far as its first process, both ways.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from refbench.agent import host_arch
from refbench.errors import BackendError, UsageError
from refbench.vm.machine import Machine
from refbench.vm.spec import MachineSpec

VARIABLE = "REFBENCH_ACCEL"
"""The environment variable that forces ``tcg`` or ``kvm``."""
DEVICE = Path("/dev/kvm")
HARDWARE_SECONDS = 10.0
"""How long a test boot with hardware virtualisation may take; one that works takes less than 1."""
_BOOTED = r"Run \S+ as init process|Kernel panic - not syncing"


@dataclass(frozen=True, slots=True)
class Acceleration:
    """What to run a guest with, and why: a part of the environment of every measurement."""

    name: str
    """``tcg`` or ``kvm``, for :attr:`~refbench.vm.spec.MachineSpec.accel`."""
    reason: str


def forced() -> Acceleration | None:
    """What :data:`VARIABLE` asks for; ``None`` when it is not set.

    :raises UsageError: for a value that it does not have.
    """
    value = os.environ.get(VARIABLE, "")
    if not value:
        return None
    if value not in {"tcg", "kvm"}:
        raise UsageError(
            f"{VARIABLE} is {value!r}, which is no accelerator.",
            remedy=f"Set {VARIABLE} to tcg or kvm, or unset it.",
        )
    return Acceleration(value, f"{VARIABLE} says so")


def choose(
    spec: MachineSpec, folder: Path, *, mark: str = "", device: Path = DEVICE
) -> Acceleration:
    """What to run the guest ``spec`` with; its own ``accel`` does not matter.

    ``folder`` is a directory for the test boots' files; ``mark`` as for
    :class:`~refbench.vm.machine.Machine`; ``device``: what stands for hardware virtualisation.
    Takes no time where that is out of the question, else the time of two boots.

    :raises UsageError: for a bad value of :data:`VARIABLE`.
    :raises BackendError: when QEMU is missing.
    """
    wanted = forced()
    if wanted is not None:
        return wanted
    if spec.icount:
        return Acceleration("tcg", "only the translator counts instructions")
    if spec.arch != host_arch():
        return Acceleration("tcg", f"this machine has no CPU for {spec.arch}")
    if not device.exists():
        return Acceleration("tcg", f"there is no {device}")
    if not os.access(device, os.R_OK | os.W_OK):
        return Acceleration("tcg", f"{device} is not open to this user")
    try:
        hardware = boot_seconds(replace(spec, accel="kvm"), folder, HARDWARE_SECONDS, mark)
    except (BackendError, ConnectionError) as error:
        return Acceleration("tcg", f"the test boot with kvm failed: {error}")
    try:
        # No test boot of the translator's has to take longer than what it is compared with.
        translated = boot_seconds(replace(spec, accel="tcg"), folder, max(hardware, 0.1), mark)
    except (BackendError, ConnectionError):
        return Acceleration("kvm", f"a test boot took {hardware:.2f} s, and tcg longer")
    return Acceleration(
        "tcg", f"the test boot took {hardware:.2f} s with kvm and {translated:.2f} s with tcg"
    )


def boot_seconds(spec: MachineSpec, folder: Path, deadline: float, mark: str = "") -> float:
    """Seconds from QEMU's start until the kernel starts its first process.

    :raises ConnectionError: when it does not within ``deadline`` seconds, or QEMU ends.
    :raises BackendError: when QEMU does not start.
    """
    spec = replace(spec, append=(*spec.append, "loglevel=8"), port=False, snapshots=False)
    with (
        tempfile.TemporaryDirectory(prefix="accel-", dir=folder) as name,
        Machine(spec, Path(name), mark=mark) as machine,
    ):
        begin = time.monotonic()
        machine.start(deadline)
        machine.wait_console(_BOOTED, max(begin + deadline - time.monotonic(), 0.0))
        return time.monotonic() - begin
