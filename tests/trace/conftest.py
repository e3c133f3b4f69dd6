"""Programs whose heaps are recorded, and whether this user may record any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from refbench.agent import DYNAMIC, FLAGS, build, host_arch
from refbench.cache import Cache
from refbench.errors import Unsupported
from refbench.trace.recording import Recorded, record

Record = Callable[..., Recorded]
HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def heaps() -> Path:
    """heaps.c, dynamically linked."""
    return build("heaps", [HERE / "heaps.c"], host_arch(), Cache.default(), DYNAMIC).path


@pytest.fixture(scope="session")
def static_heaps() -> Path:
    """heaps.c, statically linked."""
    return build("heaps-static", [HERE / "heaps.c"], host_arch(), Cache.default(), FLAGS).path


@pytest.fixture(scope="session")
def may_record(heaps: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Leaves the test out where first touches cannot be watched."""
    try:
        record([str(heaps), "large"], tmp_path_factory.mktemp("trace") / "probe.trace")
    except Unsupported as error:
        pytest.skip(f"{error.message} A userfaultfd for the kernel's accesses is needed.")


@pytest.fixture
def recorded(heaps: Path, tmp_path: Path, may_record: None) -> Record:
    """The heap of one of the programs of heaps.c."""

    def run(*arguments: str) -> Recorded:
        return record([str(heaps), *arguments], tmp_path / "heap.trace")

    return run
