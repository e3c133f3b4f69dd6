"""The console's log as it grows: whole lines, stamps, bytes that are no text."""

from __future__ import annotations

from pathlib import Path

import pytest

from refbench.vm.console import Console, stamp, text_of


def test_lines_come_in_pieces_and_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    console = Console(path)
    assert console.lines() == ()
    assert console.size() == 0
    with path.open("ab", buffering=0) as file:
        file.write(b"one\r\ntw")
        assert console.lines() == ("one", "tw")
        assert console.read() == 1
        file.write(b"o\r\n\xff\n")
        assert console.lines(1) == ("two", "\ufffd")
    assert console.size() == path.stat().st_size


@pytest.mark.parametrize(
    ("line", "seconds", "text"),
    [
        ("[    0.000000] Linux version", 0.0, "Linux version"),
        ("[12345.678901] x", 12345.678901, "x"),
        ("[    1.500000][   T42] x", 1.5, "x"),
        ("<6>[    1.500000] x", 1.5, "x"),
        ("half[    1.500000] x", 1.5, "x"),
        ("no stamp [1.5] x", None, "no stamp [1.5] x"),
        ("[    1.500000]   indented", 1.5, "  indented"),
    ],
)
def test_a_line_and_its_stamp(line: str, seconds: float | None, text: str) -> None:
    assert stamp(line) == seconds
    assert text_of(line) == text
