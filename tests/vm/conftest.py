"""Real guests for the tests of refbench.vm: a kernel and a first process compiled here."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.kernels import SECONDS, kernel

from refbench.agent import build, host_arch
from refbench.cache import Cache
from refbench.vm import initramfs
from refbench.vm.machine import Machine
from refbench.vm.spec import MachineSpec

HERE = Path(__file__).parent
BOOT_SECONDS = 60
ANSWER_SECONDS = 60


@dataclass
class Guest:
    """A machine whose first process is guest.c."""

    machine: Machine

    def ready(self) -> None:
        """Wait until it serves."""
        self.machine.port.settimeout(BOOT_SECONDS)
        assert self._line() == "ready"

    def send(self, letter: str) -> None:
        """Ask without waiting."""
        self.machine.port.sendall(letter.encode())

    def ask(self, letter: str) -> int:
        """Ask, wait for the answer: the guest's clock then, in nanoseconds."""
        self.send(letter)
        self.machine.port.settimeout(ANSWER_SECONDS)
        what, _, nanoseconds = self._line().partition(" ")
        assert what == letter[0]
        return int(nanoseconds)

    def _line(self) -> str:
        data = b""
        while not data.endswith(b"\n"):
            byte = self.machine.port.recv(1)
            assert byte, self.machine.why()
            data += byte
        return data.decode().strip()


Boot = Callable[..., Guest]


@pytest.fixture(scope="session")
def spec(cache: Path) -> MachineSpec:
    """A guest of this machine's architecture, on the real clock."""
    arch = host_arch()
    program = build("test-guest", [HERE / "guest.c"], arch, Cache(cache)).path
    initrd = initramfs.build({"init": program}, cache=Cache(cache))
    return MachineSpec(kernel().image, initrd, arch=arch, memory=128 << 20)


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder of the test's own."""
    with tempfile.TemporaryDirectory(prefix="refbench-vm-") as name:
        yield Path(name)


@pytest.fixture
def boot(spec: MachineSpec, folder: Path) -> Iterator[Boot]:
    """``boot(icount=True, ...)``: a guest that serves; it ends with the test."""
    with contextlib.ExitStack() as stack:

        def start(*, mark: str = "", **changes: object) -> Guest:
            place = Path(tempfile.mkdtemp(dir=folder))
            machine = stack.enter_context(
                Machine(replace(spec, **changes), place, mark=mark)  # type: ignore[arg-type]
            )
            machine.start()
            guest = Guest(machine)
            guest.ready()
            return guest

        yield start


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever boots may have to wait for a kernel; nobody does without QEMU."""
    for item in items:
        if HERE in item.path.parents and {"boot", "spec"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.timeout(SECONDS))
            item.add_marker(
                pytest.mark.skipif(
                    shutil.which("qemu-system-x86_64") is None, reason="QEMU is not installed"
                )
            )
