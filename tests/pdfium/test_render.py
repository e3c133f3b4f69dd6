"""The renderer: the same bitmaps every time, numbers that add up, errors of one line."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.pdfium.conftest import Draw

from refbench.agent import DYNAMIC, NATIVE
from refbench.errors import UsageError
from refbench.pdfium.library import Renderer

STRICT = ["-Wall", "-Wextra", "-Wshadow", "-Wvla", "-Werror"]
PERTURB = {"GLIBC_TUNABLES": "glibc.malloc.perturb=170"}
"""The C library's own way to hand out memory that is not zero."""


def encrypted(path: Path) -> Path:
    """A document that asks for a password."""
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(path), encrypt="secret")
    canvas.drawString(72, 72, "behind a password")
    canvas.save()
    return path


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_it_compiles_without_a_warning(compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    sources = map(str, sorted((NATIVE / "pdfium").glob("*.c")))
    argv = [compiler, *DYNAMIC, *STRICT, f"-I{NATIVE}", *sources, "-o", str(tmp_path / "render")]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_runs_are_alike_whatever_memory_holds(draw: Draw) -> None:
    first = draw("--pages", "0-30")
    assert first.code == 0, first.stderr
    assert len(first.hashes) == 31
    assert draw("--pages", "0-30").hashes == first.hashes
    assert draw("--pages", "0-30", env=PERTURB).hashes == first.hashes


def test_a_page_looks_the_same_whatever_was_drawn_before(draw: Draw) -> None:
    alone, among = draw("--pages", "14"), draw("--pages", "12-16")
    assert alone.numbers["page-14-hash"] == among.numbers["page-14-hash"]
    assert alone.numbers["hash"] != among.numbers["hash"]


def test_the_numbers_add_up(draw: Draw) -> None:
    numbers = dict(draw("--pages", "12-16").numbers)
    assert numbers["pages"] == 5
    assert numbers["bitmap-bytes"] == 5 * 595 * 842 * 4
    times = [numbers.pop(f"page-{page}-ns") for page in range(12, 17)]
    assert all(times)
    assert sum(times) == numbers["pages-ns"]
    assert numbers["library-ns"] > 0
    assert numbers["document-ns"] > 0
    assert all(0 <= value < 1 << 63 for value in numbers.values())
    assert len(numbers) == 5 + 6


def test_without_a_range_all_pages_are_drawn(draw: Draw, tmp_path: Path) -> None:
    from refbench.pdfium import manual

    short = tmp_path / "short.pdf"
    manual.write(short, 3)
    assert draw(document=short).numbers["pages"] == 3


def test_an_image_shows_the_page(draw: Draw, tmp_path: Path) -> None:
    draw("--pages", "20", "--image", str(tmp_path / "page"))
    content = (tmp_path / "page-20.ppm").read_bytes()
    assert content.startswith(b"P6\n595 842\n255\n")
    assert len(content) == len(b"P6\n595 842\n255\n") + 595 * 842 * 3


@pytest.mark.parametrize("descriptor", ["3>&-", "3</dev/null"])
def test_nobody_needs_to_listen(descriptor: str, tool: Renderer, manual: Path) -> None:
    argv = [str(tool.program), "--library", str(tool.library), "--pages", "12", str(manual)]
    command = ["/bin/sh", "-c", f'exec "$@" {descriptor}', "sh", *argv]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_report_that_cannot_be_written(tool: Renderer, manual: Path) -> None:
    argv = [str(tool.program), "--library", str(tool.library), "--pages", "12", str(manual)]
    # A regular file that is open for reading alone.
    command = ["/bin/sh", "-c", 'exec "$@" 3<"$0"', str(manual), *argv]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 17
    assert done.stderr == "render: the report cannot be written: Bad file descriptor\n"


def test_a_font_that_is_not_embedded_is_the_library_s_own(draw: Draw, tmp_path: Path) -> None:
    from reportlab.pdfgen.canvas import Canvas

    for name, text in (("one", "Not embedded"), ("two", "")):
        canvas = Canvas(str(tmp_path / f"{name}.pdf"))
        canvas.setFont("Times-Roman", 20)
        canvas.drawString(72, 400, text)
        canvas.save()
    one, two = (draw(document=tmp_path / f"{name}.pdf") for name in ("one", "two"))
    assert one.code == two.code == 0
    assert one.hashes != two.hashes, "the text is drawn"


@pytest.mark.parametrize(
    ("pages", "code", "says"),
    [
        ("110-120", 12, r"there is no page 120 in \S+: it has 120, counted from 0 to 119"),
        ("120", 12, "there is no page 120"),
        ("9999999", 12, "there is no page 9999999"),
        ("x", 2, "x is no range of pages"),
        ("5-3", 2, "5-3 is no range of pages"),
        ("-1", 2, "-1 is no range of pages"),
        ("1-2-3", 2, "1-2-3 is no range of pages"),
        ("99999999999999999999", 2, "is no range of pages"),
    ],
)
def test_a_range_that_is_none(pages: str, code: int, says: str, draw: Draw) -> None:
    answer = draw("--pages", pages)
    assert answer.code == code
    assert re.fullmatch(f"render: .*{says}.*\n", answer.stderr)
    assert not answer.numbers


def test_an_encrypted_document(draw: Draw, tool: Renderer, tmp_path: Path) -> None:
    path = encrypted(tmp_path / "secret.pdf")
    answer = draw("--pages", "0", document=path)
    assert answer.code == 11
    assert answer.stderr == f"render: the document {path} is encrypted and needs a password\n"
    with pytest.raises(UsageError, match="is encrypted and needs a password") as caught:
        tool.pages(path, "0")
    assert "pdf=PATH" in caught.value.remedy


@pytest.mark.parametrize("content", [b"GIF89a", b"%PDF-1.7\n", b"\0" * 5000, b""])
def test_a_broken_document(content: bytes, draw: Draw, tool: Renderer, tmp_path: Path) -> None:
    path = tmp_path / "broken.pdf"
    path.write_bytes(content)
    answer = draw("--pages", "0", document=path)
    assert answer.code == 10
    assert answer.stderr.count("\n") == 1
    with pytest.raises(UsageError, match=r"broken\.pdf is no"):
        tool.pages(path, "0")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_a_document_that_was_cut(share: float, draw: Draw, manual: Path, tmp_path: Path) -> None:
    """The library repairs what it can: a page is then there or not, and never a crash."""
    content = manual.read_bytes()
    path = tmp_path / "cut.pdf"
    path.write_bytes(content[: int(len(content) * share)])
    answer = draw("--pages", "0-119", document=path)
    assert answer.code in (0, 10, 12, 16)
    assert answer.stderr.count("\n") == (answer.code != 0)


def test_a_document_that_cannot_be_read(draw: Draw, tmp_path: Path) -> None:
    missing = tmp_path / "missing.pdf"
    answer = draw(document=missing)
    assert (answer.code, answer.stderr) == (
        14,
        f"render: the document {missing} cannot be read: No such file or directory\n",
    )
    assert draw(document=tmp_path).code == 10


@pytest.mark.parametrize(
    "arguments", [["--pages"], ["--surprise"], ["another.pdf"], ["--check", "--images", "x"]]
)
def test_arguments_that_there_are_not(arguments: list[str], draw: Draw) -> None:
    assert draw(*arguments).code == 2


def test_a_library_that_is_not_there(draw: Draw, tmp_path: Path) -> None:
    answer = draw("--pages", "0", library=tmp_path / "libpdfium.so")
    assert answer.code == 13
    assert re.fullmatch(r"render: libpdfium cannot be used: .*No such file.*\n", answer.stderr)
