"""The generated document: the same to the byte, as full as a manual, clear where it fails."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.pdfium.conftest import Draw

from refbench.errors import UsageError
from refbench.pdfium import manual as generator
from refbench.pdfium.document import VOUCHED, document, verdict
from refbench.pdfium.library import Renderer

WRITE = """
import sys
from pathlib import Path
from refbench.pdfium import manual
manual.write(Path(sys.argv[1]), int(sys.argv[2]))
"""


def written(path: Path, pages: int, **variables: str) -> bytes:
    """The first pages of the document as another process writes it."""
    subprocess.run(
        [sys.executable, "-c", WRITE, path, str(pages)],
        env={**os.environ, **variables},
        check=True,
        timeout=100,
    )
    return path.read_bytes()


def test_two_generations_are_equal_to_the_byte(manual: Path, tmp_path: Path) -> None:
    other = written(tmp_path / "again.pdf", generator.PAGES, PYTHONHASHSEED="20200731")
    assert hashlib.sha256(other).digest() == hashlib.sha256(manual.read_bytes()).digest()


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONHASHSEED": "1"},
        {"PYTHONHASHSEED": "4294967295"},
        {"RL_useA85": "1", "RL_invariant": "0", "RL_ttfAsciiReadable": "0"},
        {"TZ": "Pacific/Chatham", "LC_ALL": "C"},
    ],
)
def test_nothing_around_it_changes_it(variables: dict[str, str], tmp_path: Path) -> None:
    pages = generator.CONTENTS + 3
    plain = written(tmp_path / "plain.pdf", pages, PYTHONHASHSEED="0")
    assert written(tmp_path / "other.pdf", pages, **variables) == plain


def test_other_pages_are_another_document(tmp_path: Path) -> None:
    assert written(tmp_path / "a.pdf", 2) != written(tmp_path / "b.pdf", 3)


def test_it_has_what_a_manual_has(manual: Path, tool: Renderer) -> None:
    content = manual.read_bytes()
    assert tool.pages(manual, "0") == generator.PAGES == 120
    assert content.count(b"/FontFile2") >= 8, "fonts are embedded"
    assert content.count(b"/Subtype /Image") >= 20
    assert content.count(b"/Subtype /Link") >= 250
    assert content.count(b"/Title (") + content.count(b"/Title <") >= 300, "an outline"


def drawn(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The pixels of a binary PPM."""
    magic, size, most, pixels = path.read_bytes().split(b"\n", 3)
    assert (magic, most) == (b"P6", b"255")
    width, height = map(int, size.split())
    return np.frombuffer(pixels, dtype=np.uint8).reshape(height, width, 3)


@pytest.mark.parametrize("first", [3, 12, 40, 77, 111])
def test_pages_are_full(first: int, draw: Draw, tmp_path: Path) -> None:
    answer = draw("--pages", f"{first}-{first + 3}", "--image", str(tmp_path / "page"))
    assert answer.code == 0, answer.stderr
    for index in range(first, first + 4):
        pixels = drawn(tmp_path / f"page-{index}.ppm")
        assert pixels.shape == (842, 595, 3)
        column = pixels[62:790, 62:545].min(axis=2) < 160
        # Of bands of three lines of text hardly any is blank: a heading's space, a figure's edge.
        bands = column[: 36 * 20].reshape(20, 36, -1).any(axis=(1, 2))
        assert bands.sum() >= 18, f"page {index} has {20 - bands.sum()} blank bands"
        assert 0.03 < column.mean() < 0.6, f"page {index}: {column.mean():.3f} of it is ink"


def test_no_two_pages_look_the_same(draw: Draw) -> None:
    answer = draw("--pages", "0-119")
    assert len(set(answer.hashes.values())) == len(answer.hashes) == generator.PAGES


def test_only_the_original_is_reproduced(manual: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert verdict(manual) == "re-enacted"
    monkeypatch.setenv(VOUCHED, "0" * 64)
    assert verdict(manual) == "re-enacted"
    monkeypatch.setenv(VOUCHED, hashlib.sha256(manual.read_bytes()).hexdigest().upper())
    assert verdict(manual) == "reproduced"


def test_a_document_of_ones_own(tmp_path: Path) -> None:
    own = tmp_path / "own.pdf"
    own.write_bytes(b"%PDF-1.4")
    assert document(str(own)) == own
    with pytest.raises(UsageError, match=r"missing\.pdf is not a file") as caught:
        document(str(tmp_path / "missing.pdf"))
    assert "pdf=PATH" in caught.value.remedy


@pytest.mark.parametrize(
    ("package", "says"), [("reportlab", "reportlab"), ("matplotlib", "DejaVuSerif.ttf")]
)
def test_a_missing_package_is_named(
    package: str, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # What the import system itself leaves for a module that must not be found.
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setenv("REFBENCH_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match=says) as caught:
        document()
    assert "nstall" in caught.value.remedy
    assert "pdf=PATH" in caught.value.remedy
