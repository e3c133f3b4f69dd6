"""refbench.native: memory from a mechanism as a Python buffer."""

from __future__ import annotations

import gc
import importlib
import mmap
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from refbench.errors import BackendError, LimitHit, Unsupported, UsageError
from refbench.grammar import Spec
from refbench.native import Mapping, probe
from refbench.words import Pattern

# From Python 3.12 on; the other thread is the mechanism's own and never enters Python.
pytestmark = pytest.mark.filterwarnings("ignore:This process .*multi-threaded:DeprecationWarning")

PAGE = mmap.PAGESIZE
SIZE = 64 * PAGE
UFFD = ["uffd", "uffd:atfork", "uffd:events=fork"]
MECHANISMS = ["anon", "memset", "memfd", "memfd:block=16", "memfd-full", *UFFD]


def made(mechanism: str, size: int = SIZE, pattern: str = "byte:0xAA") -> Mapping:
    """A mapping, or a skipped test where the mechanism does not work."""
    try:
        return Mapping(size, pattern, mechanism)
    except Unsupported as error:
        pytest.skip(str(error))


def in_child(ask: Callable[[], bool]) -> bool:
    """What a forked child answers."""
    child = os.fork()
    if child == 0:
        code = 2
        try:
            code = 0 if ask() else 1
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 1)
    return code == 0


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_every_byte_reads_as_the_pattern(mechanism: str) -> None:
    with made(mechanism) as mapping:
        wanted = 0xAA if mapping.applies_pattern else 0
        assert bytes(mapping) == bytes([wanted]) * SIZE


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_store_changes_one_byte(mechanism: str) -> None:
    with made(mechanism) as mapping:
        wanted = 0xAA if mapping.applies_pattern else 0
        with memoryview(mapping) as view:
            view[5 * PAGE + 7] = 0x55
            view[9 * PAGE] = 0x66
            changed = {i: byte for i, byte in enumerate(bytes(view)) if byte != wanted}
        assert changed == {5 * PAGE + 7: 0x55, 9 * PAGE: 0x66}


@pytest.mark.parametrize("mechanism", ["memset", "memfd:block=3", "memfd-full", "uffd"])
def test_a_page_image_is_repeated_in_every_page(mechanism: str, tmp_path: Path) -> None:
    image = bytes(range(251))
    file = tmp_path / "page"
    file.write_bytes(image)
    page = (image * PAGE)[:PAGE]
    with made(mechanism, 8 * PAGE, f"file:{file}") as mapping:
        assert bytes(mapping) == page * 8


@pytest.mark.parametrize("mechanism", ["anon", "memset", "memfd:block=4", "memfd-full", "uffd"])
def test_populated_memory_reads_the_same(mechanism: str) -> None:
    made(mechanism).close()
    with Mapping(SIZE, "byte:7", mechanism, populate=True) as mapping:
        assert bytes(mapping) == bytes([7 if mapping.applies_pattern else 0]) * SIZE


@pytest.mark.parametrize(
    "mechanism", ["anon", "memset", "memfd", "memfd-full", "uffd:atfork", "uffd:events=fork"]
)
def test_clean_pages_keep_the_pattern_in_a_child(mechanism: str) -> None:
    with made(mechanism) as mapping:
        wanted = bytes([0xAA if mapping.applies_pattern else 0]) * SIZE
        assert in_child(lambda: bytes(mapping) == wanted)
        assert bytes(mapping) == wanted


@pytest.mark.parametrize("mechanism", ["memfd", "uffd:atfork", "uffd:events=fork"])
def test_clean_pages_keep_the_pattern_in_a_grandchild(mechanism: str) -> None:
    with made(mechanism) as mapping:
        wanted = b"\xaa" * SIZE
        assert in_child(lambda: in_child(lambda: bytes(mapping) == wanted))


def test_a_child_without_fork_events_loses_the_pattern_of_untouched_pages() -> None:
    with made("uffd") as mapping, memoryview(mapping) as view:
        assert view[0] == 0xAA
        expected = b"\xaa" * PAGE + bytes(SIZE - PAGE)
        assert in_child(lambda: bytes(view) == expected)
        assert bytes(view) == b"\xaa" * SIZE


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_child_can_map_memory_of_its_own(mechanism: str) -> None:
    with made(mechanism) as mapping:
        wanted = bytes([0x11 if mapping.applies_pattern else 0]) * SIZE
        assert in_child(lambda: bytes(Mapping(SIZE, "byte:0x11", mechanism)) == wanted)


def test_numpy_sees_and_changes_the_memory() -> None:
    with Mapping(SIZE, "byte:0x01", "memfd:block=16") as mapping:
        array = np.frombuffer(mapping, dtype=np.uint8)
        assert int(array.sum()) == SIZE
        array[:PAGE] = 3
        assert bytes(mapping)[: PAGE + 1] == b"\x03" * PAGE + b"\x01"
        assert array.ctypes.data == mapping.address
        del array


def test_two_mappings_of_one_mechanism_do_not_share_what_is_written() -> None:
    with Mapping(SIZE, "byte:1", "memfd") as one, Mapping(SIZE, "byte:2", "memfd") as other:
        with memoryview(one) as view:
            view[:] = b"\x09" * SIZE
        assert bytes(other) == b"\x02" * SIZE


def test_the_length_and_the_address_are_those_of_the_mapping() -> None:
    mapping = Mapping(SIZE)
    assert len(mapping) == mapping.size == SIZE
    assert mapping.address % PAGE == 0
    assert f"{mapping.address:x}-" in Path("/proc/self/maps").read_text()
    assert str(SIZE) in repr(mapping)
    mapping.close()
    assert mapping.closed
    assert mapping.address == 0
    assert "closed" in repr(mapping)


def test_closing_waits_for_the_last_view() -> None:
    mapping = Mapping(SIZE)
    view = memoryview(mapping)
    with pytest.raises(BufferError, match="1 views"):
        mapping.close()
    assert view[0] == 0xAA
    view.release()
    mapping.close()
    mapping.close()
    with pytest.raises(ValueError, match="closed"):
        memoryview(mapping)
    with pytest.raises(ValueError, match="closed"):
        mapping.settle()


def test_a_mapping_that_nobody_refers_to_is_unmapped() -> None:
    mapping = Mapping(SIZE, mechanism="memfd-full")
    start = f"{mapping.address:x}-"
    view = memoryview(mapping)
    del mapping
    gc.collect()
    assert start in Path("/proc/self/maps").read_text()
    assert view[0] == 0xAA
    del view
    gc.collect()
    assert start not in Path("/proc/self/maps").read_text()


def test_open_and_close_leaves_nothing_behind() -> None:
    made("uffd").close()

    def counts() -> tuple[int, int, int]:
        maps = Path("/proc/self/maps").read_text().count("\n")
        descriptors, threads = Path("/proc/self/fd"), Path("/proc/self/task")
        return maps, len(list(descriptors.iterdir())), len(list(threads.iterdir()))

    before = counts()
    for _ in range(20):
        for mechanism in ("memfd", "memfd-full", "uffd", "uffd:atfork"):
            with Mapping(4 * PAGE, mechanism=mechanism) as mapping:
                assert bytes(mapping) == b"\xaa" * 4 * PAGE
    after = counts()
    assert after[1:] == before[1:]
    # Python's own allocator may map an arena in between, but not one for each mapping.
    assert after[0] < before[0] + 20


def test_counters_and_held_bytes() -> None:
    with Mapping(SIZE, mechanism="memfd") as mapping:
        assert mapping.counters.syscalls > SIZE // PAGE
        assert mapping.held == PAGE
    with Mapping(SIZE, mechanism="memfd:block=16") as mapping:
        assert SIZE // PAGE // 16 < mapping.counters.syscalls < SIZE // PAGE
        assert mapping.held == 16 * PAGE
    with Mapping(SIZE, mechanism="memfd-full") as mapping:
        assert mapping.held == SIZE
    assert mapping.held == 0
    with made("uffd") as mapping:
        with memoryview(mapping) as view:
            assert view[0] == view[PAGE] == 0xAA
        assert mapping.counters.uffd_messages == 2
        assert mapping.counters.sigbus == mapping.counters.sigsegv == 0
        assert mapping.facts["uffd"] in ("full", "user-mode-only")


@pytest.mark.parametrize("mechanism", ["memfd", "memfd-full"])
def test_the_memfd_is_not_executable(mechanism: str) -> None:
    """On every kernel, although older ones make memfds executable: a core dump would hold the
    first page of each of its mappings."""

    def memfds() -> list[int]:
        links = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return [p.stat().st_mode for p in links if "/memfd:refbench" in str(p.readlink())]

    with made(mechanism):
        modes = memfds()
    assert modes
    assert all(mode & 0o111 == 0 for mode in modes)


def test_pattern_and_mechanism_may_be_words() -> None:
    with Mapping(PAGE, Pattern.parse("byte:3"), Spec.of("memfd", block=1)) as mapping:
        assert bytes(mapping) == b"\x03" * PAGE
        assert str(mapping.mechanism) == "memfd"


@pytest.mark.parametrize("mechanism", ["segv", "uffd-sigbus", "uffd-sigbus:atfork"])
def test_mechanisms_that_own_signals_are_refused(mechanism: str) -> None:
    with pytest.raises(UsageError, match="signal handlers") as caught:
        Mapping(SIZE, mechanism=mechanism)
    assert "refbench run" in caught.value.remedy
    answer = probe(mechanism)
    assert not answer.ok
    assert "signal handlers" in answer.reason


@pytest.mark.parametrize(
    ("size", "pattern", "mechanism", "message", "remedy"),
    [
        (0, "byte:1", "memset", "0 bytes", str(PAGE)),
        (-PAGE, "byte:1", "memset", "bytes", str(PAGE)),
        (PAGE + 1, "byte:1", "memset", "whole number of pages", str(2 * PAGE)),
        (PAGE, "byte:300", "memset", "300", "byte:0xAA"),
        (PAGE, "file:/nowhere/at/all", "memset", "/nowhere/at/all", "path"),
        (PAGE, "byte:1+tag:5", "memset", "memory tag", "tag"),
        (PAGE, "byte:1", "memfdd", "memfdd", "'memfd'"),
        (PAGE, "byte:1", "memfd:blok=1", "blok", "'block'"),
        (PAGE, "byte:1", "memfd:block=0", "block", "1"),
        (PAGE, "byte:1", "memfd:huge=1MiB", "huge", "multiple"),
        (PAGE, "byte:1", "uffd:events=exec", "exec", "fork"),
        (PAGE, "byte:1", "uffd:events=fork,atfork", "served", "atfork"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error_with_a_remedy(
    size: int, pattern: str, mechanism: str, message: str, remedy: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Mapping(size, pattern, mechanism)
    assert remedy in caught.value.remedy


def test_a_pattern_file_larger_than_a_page_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(bytes(PAGE + 1))
    with pytest.raises(UsageError, match=str(PAGE + 1)):
        Mapping(PAGE, f"file:{file}")


def test_too_many_blocks_hit_the_limit_of_mappings() -> None:
    most = int(Path("/proc/sys/vm/max_map_count").read_text())
    pages = 2 * most
    with pytest.raises(LimitHit, match="max_map_count") as caught:
        Mapping(pages * PAGE, mechanism="memfd:block=1")
    assert (caught.value.wanted, caught.value.limit) == (pages, most)
    assert "block=4" in caught.value.remedy
    with Mapping(pages * PAGE, mechanism="memfd:block=4") as mapping:
        assert memoryview(mapping)[-1] == 0xAA


def test_more_than_all_memory_hits_a_limit() -> None:
    size = 1 << 46
    for mechanism in ("anon", "memset"):
        with pytest.raises(LimitHit) as caught:
            Mapping(size, mechanism=mechanism)
        assert caught.value.wanted == size
        assert 0 < caught.value.limit < size


def test_no_descriptor_left_is_a_limit() -> None:
    code = """
import resource
from refbench.errors import LimitHit
from refbench.native import Mapping
Mapping(4096 * 16).close()
resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
try:
    Mapping(4096 * 16, mechanism="memfd")
except LimitHit as error:
    print(error.wanted, error.limit)
"""
    done = subprocess.run(
        [sys.executable, "-c", code.replace("4096", str(PAGE))],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "1 0\n", done.stderr


def test_probes_say_what_is_missing_and_how_to_get_it() -> None:
    assert probe("memset").ok
    assert probe("memfd:block=512").ok
    with pytest.raises(UsageError):
        probe("nothing")
    with pytest.raises(UsageError):
        probe("uffd:events=fork,atfork")
    if (Path("/sys/kernel/mm/ksm/run")).read_text().strip() != "1":
        answer = probe("ksm")
        assert not answer.ok
        assert "/sys/kernel/mm/ksm/run" in answer.remedy


def test_an_installation_without_a_compiler_goes_on(repository: Path, tmp_path: Path) -> None:
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, tmp_path)
    for name in ("src", "backends"):
        shutil.copytree(
            repository / name,
            tmp_path / name,
            ignore=shutil.ignore_patterns("*.so", "*.egg-info", "__pycache__"),
        )
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"],
        cwd=tmp_path,
        env={**os.environ, "CC": "/bin/false"},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    assert "failed" in done.stderr
    assert not list(tmp_path.rglob("*.so"))


def test_without_the_extension_modules_the_error_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    native = importlib.import_module("refbench.native")
    monkeypatch.setitem(sys.modules, "refbench.native._cffi", None)
    monkeypatch.delitem(sys.modules, "refbench.native.mapping")
    monkeypatch.delattr(native, "mapping")
    with pytest.raises(BackendError, match="not built") as caught:
        native.Mapping  # noqa: B018
    assert "compiler" in caught.value.remedy
    with pytest.raises(AttributeError):
        native.nothing  # noqa: B018
