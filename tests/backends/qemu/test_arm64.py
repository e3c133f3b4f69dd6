"""Guests of the other architecture: the same mechanisms in a kernel that was built for arm64.

No test builds that kernel, which takes a quarter of an hour: `refbench kernel build --arch arm64`
does. Where it is not in the cache these tests are skipped.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest
from tests.kernels import home

from refbench.agent import compiler_probe
from refbench.cache import Cache
from refbench.errors import BackendError, UsageError
from refbench.grammar import Spec, resolve
from refbench.samples import Run
from refbench.vm import kernels
from refbench.vm.kernels import Kernel
from refbench.words import Cell
from refbench_qemu.backend import QemuBackend
from refbench_qemu.channel import QemuChannel
from refbench_qemu.kernel.recipe import is_current
from refbench_qemu.session import QemuSession

QEMU = "qemu-system-aarch64"
PAGE = 4096
SIZE = 4 << 20
COMMAND = "refbench kernel build --arch arm64"


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    """The patched kernel for arm64, if it is there and of today's patches."""
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed: apt-get install qemu-system-arm")
    if not (found := compiler_probe("arm64")).ok:
        pytest.skip(f"{found.reason} {found.remedy}")
    try:
        kernel = kernels.find("patched", "arm64", Cache(home()))
    except BackendError:
        pytest.skip(f"there is no kernel for arm64 in the cache: {COMMAND}")
    if not is_current(kernel):
        pytest.skip(f"the kernel for arm64 is not of today's patches: {COMMAND}")
    return kernel


Open = Callable[..., QemuSession]
MakeCell = Callable[..., Cell]


@pytest.fixture(scope="module")
def open_arm64(kernel: Kernel) -> Open:
    def opened(**options: object) -> QemuSession:
        spec = Spec.of("qemu", **{"kernel": "patched", "arch": "arm64", **options})
        backend = QemuBackend()
        return backend.open(resolve(spec, backend.options, what="target"))

    return opened


@pytest.fixture(scope="module")
def counted(open_arm64: Open) -> Iterator[QemuSession]:
    """The instruction clock, every cell in a pristine guest."""
    with open_arm64() as session:
        yield session


def good(session: QemuSession, cell: Cell) -> Run:
    run = session.run(cell, 2, 120)
    assert run.failure is None, run.failure
    return run


def test_it_is_an_arm64_machine(counted: QemuSession, kernel: Kernel) -> None:
    channel = counted.channel
    assert isinstance(channel, QemuChannel)
    guest = channel.guest()
    assert guest.recipe.spec.arch == "arm64"
    assert guest.port.read("/proc/sys/kernel/arch") == "aarch64"
    assert guest.port.read("/proc/sys/kernel/osrelease") == kernel.version
    assert kernel.syscalls["refpage_create"] > 0
    capabilities = counted.capabilities()
    assert (capabilities.arch, capabilities.page_size) == ("arm64", PAGE)


@pytest.mark.parametrize(
    "mechanism", ["anon", "memset", "memfd", "uffd-sigbus:atfork=yes", "segv", "refpage-dev"]
)
def test_mechanisms_show_the_pattern(counted: QemuSession, cell: MakeCell, mechanism: str) -> None:
    good(counted, cell(mechanism, size=SIZE))


@pytest.mark.parametrize(("mechanism", "own"), [("refpage", 0), ("refpage-mmap", PAGE)])
def test_a_reference_page_costs_the_memory_of_plain_pages(
    counted: QemuSession, cell: MakeCell, mechanism: str, own: int
) -> None:
    """``own``: bytes of the process that hold the reference page itself."""

    def rss(name: str) -> list[int]:
        run = good(counted, cell(name, size=SIZE))
        return [sample.memory["touch"].rss - sample.memory["start"].rss for sample in run.kept]

    plain = rss("anon")
    assert min(plain) >= SIZE // 16  # one page of sixteen is stored to
    assert rss(mechanism) == [size + own for size in plain]


def test_counts_are_the_same_in_another_guest(
    counted: QemuSession, open_arm64: Open, cell: MakeCell
) -> None:
    wanted = cell("refpage", size=SIZE)
    with open_arm64() as other:
        runs = good(counted, wanted), good(other, wanted)
    first, second = ([sample.phases["touch"].ns for sample in run.kept] for run in runs)
    assert first == pytest.approx(second, rel=0.0005)


def test_on_the_real_clock_with_two_cpus(open_arm64: Open, cell: MakeCell) -> None:
    with open_arm64(clock="real", cpus=2) as session:
        good(session, cell("refpage", size=SIZE))


def test_fast_strings_are_no_choice_there(open_arm64: Open) -> None:
    with pytest.raises(UsageError, match="erms"):
        open_arm64(erms="no")
