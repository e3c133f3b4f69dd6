"""Kernels and guests for the tests of the backend qemu. A boot takes seconds: many share one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests import kernels as of_tests

from refbench.agent import build
from refbench.cache import Cache
from refbench.grammar import Spec, resolve
from refbench.program import Expect, Map, Measure, Phase, Program, Touch, Unmap
from refbench.vm import kernels
from refbench.vm.kernels import Kernel
from refbench.words import Cell, Pattern
from refbench_qemu.backend import QemuBackend, recipe_of
from refbench_qemu.channel import QemuChannel
from refbench_qemu.session import QemuSession

HERE = Path(__file__).parent
MODULES = Path("backends/refbench_qemu/kernel/modules")
PROGRAMS = HERE / "programs"
_STRICT = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Wshadow", "-Werror", "-static")

Open = Callable[..., QemuSession]
backend = QemuBackend()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and not list(item.iter_markers("timeout")):
            item.add_marker(pytest.mark.timeout(of_tests.SECONDS))


@pytest.fixture(scope="session")
def qemu() -> QemuBackend:
    """The backend, where it can run."""
    found = backend.probe()
    if not found.ok:
        pytest.skip(f"{found.reason} {found.remedy}")
    return backend


@pytest.fixture(scope="session")
def kernel(cache: Path) -> Callable[[str], Kernel]:
    """A kernel by the name that ``qemu:kernel=NAME`` has for it, built when there is none."""
    return of_tests.kernel


@pytest.fixture(scope="session")
def patched(qemu: QemuBackend, cache: Path) -> Kernel:
    """The kernel that ``-b qemu`` boots."""
    return of_tests.kernel()


@pytest.fixture(scope="session")
def open_qemu(qemu: QemuBackend, patched: Kernel) -> Open:
    """Open a target: ``open_qemu(swap="64MiB")``, on the patched kernel where none is named."""

    def opened(**options: object) -> QemuSession:
        given = {name.replace("_", "-"): value for name, value in options.items()}
        spec = Spec.of("qemu", **{"kernel": patched.image, **given})
        return qemu.open(resolve(spec, qemu.options, what="target"))

    return opened


@pytest.fixture(scope="module")
def counted(open_qemu: Open) -> Iterator[QemuSession]:
    """As ``-b qemu``: the instruction clock, every cell in a pristine guest."""
    with open_qemu() as session:
        yield session


@pytest.fixture(scope="module")
def used(open_qemu: Open) -> Iterator[QemuSession]:
    """One guest for all, in which every program meets what those before it have left."""
    with open_qemu(fresh="boot") as session:
        yield session


@pytest.fixture
def guest_with(kernel: Callable[[str], Kernel], tmp_path: Path) -> Callable[..., QemuChannel]:
    """A channel to guests of a kernel with a module loaded; the caller closes it."""

    def start(name: str, module: str = "") -> QemuChannel:
        kernel(name)
        spec = Spec.parse(f"qemu:kernel={name},clock=real,module={module}")
        options = resolve(spec, QemuBackend.options, what="backend")
        return QemuChannel(recipe_of(kernels.find(name), options), tmp_path, mark="")

    return start


@pytest.fixture(scope="session")
def guest_program(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Compiles a file of programs/ for a guest."""
    folder = tmp_path_factory.mktemp("programs")

    def build(name: str) -> Path:
        compiler = shutil.which("cc") or shutil.which("gcc")
        assert compiler, "the tests need a C compiler"
        program = folder / name
        includes = [f"-I{repository / MODULES / part}" for part in ("refpage", "testing")]
        subprocess.run(
            [compiler, *_STRICT, *includes, str(PROGRAMS / f"{name}.c"), "-o", str(program)],
            check=True,
            timeout=60,
        )
        return program

    return build


@pytest.fixture(scope="session")
def say(cache: Path) -> Path:
    """A program that writes its argument to the kernel's log."""
    return build("say", (PROGRAMS / "say.c",), "x86_64", Cache(cache)).path


@pytest.fixture(scope="session")
def cell() -> Callable[..., Cell]:
    """A cell of some pages: ``cell("memset", size=1 << 20)``."""

    def touching(mechanism: str, size: int = 4 << 20, stride: int = 65536) -> Cell:
        steps = (
            Phase("map"),
            Map(0, size),
            Phase("touch"),
            Touch(0, 0, size, "write", stride),
            Phase(),
            Measure("touch"),
            Expect(0, 1, size - 1, stride=4096, once=True),
            Phase("unmap"),
            Unmap(0),
        )
        name = f"qemu-test-{size}-{stride}"
        program = Program(name, steps)
        return Cell(f"program:{name}", Spec.parse(mechanism), Pattern(), program)

    return touching
