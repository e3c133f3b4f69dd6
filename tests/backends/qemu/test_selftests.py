"""The kernel selftests that the patches bring along pass on the kernel that has the patches."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from tests.backends.qemu import selftests

from refbench_qemu.channel import QemuChannel
from refbench_qemu.kernel.places import PATCHES

_TEST = re.compile(r"^\+TEST_F\((\w+), (\w+)\)$", re.MULTILINE)
_RESULT = re.compile(r"(not )?ok (\d+) (\S+)(.*)")
_SECONDS = 60.0


@pytest.fixture(scope="module")
def folder() -> Path:
    return selftests.programs()


@pytest.fixture(scope="module")
def wanted() -> dict[str, list[str]]:
    """The tests that the patch writes, by program."""
    (patch,) = (PATCHES / "6.12").glob("*selftests*.patch")
    files = re.split(r"^\+\+\+ b/", patch.read_text(), flags=re.MULTILINE)
    return {
        Path(text.partition("\n")[0]).stem: [f"{a}.{b}" for a, b in _TEST.findall(text)]
        for text in files[1:]
        if _TEST.search(text)
    }


@pytest.fixture
def guest(guest_with: Callable[..., QemuChannel]) -> Iterator[QemuChannel]:
    channel = guest_with("patched")
    yield channel
    channel.close()


def results(lines: Sequence[str]) -> list[str]:
    """The names of the tests of a TAP document in their order; every one has to have passed.

    https://testanything.org/tap-version-13-specification.html
    """
    assert lines[0] == "TAP version 13"
    said = [line for line in lines[1:] if not line.startswith("#")]
    matches = [_RESULT.fullmatch(line) for line in said[1:]]
    assert all(matches), said
    found = [match for match in matches if match]
    assert said[0] == f"1..{len(found)}"
    assert [int(match[2]) for match in found] == list(range(1, len(found) + 1))
    bad = [match[0] for match in found if match[1] or match[4]]
    assert bad == [], "\n".join(lines)
    return [match[3] for match in found]


def test_every_selftest_passes(
    guest: QemuChannel, folder: Path, wanted: dict[str, list[str]]
) -> None:
    assert sorted(wanted) == sorted(selftests.NAMES)
    for name in selftests.NAMES:
        answer = guest.run([guest.put(folder / name)], _SECONDS)
        assert results(answer.stdout) == wanted[name]
        assert answer.returncode == 0
        assert guest.faults == ()
    assert guest.boots == 1


@pytest.mark.parametrize(
    "lines",
    [
        ("TAP version 13", "1..1", "not ok 1 refpage.any_offset"),
        ("TAP version 13", "1..1", "ok 1 refpage.any_offset # SKIP no reference pages here"),
        ("TAP version 13", "1..2", "ok 1 refpage.any_offset"),
        ("TAP version 13", "1..1", "ok 1 refpage.any_offset", "Segmentation fault"),
    ],
)
def test_what_did_not_pass_is_no_pass(lines: tuple[str, ...]) -> None:
    with pytest.raises(AssertionError):
        results(lines)
