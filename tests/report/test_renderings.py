"""What an executed program said of itself: bitmaps that differ, memory that came from elsewhere."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from refbench.cache import file_digest
from refbench.grammar import Spec
from refbench.plugins import registry
from refbench.published import PDFIUM
from refbench.report import beside_html, beside_text
from refbench.report.beside import beside
from refbench.report.renderings import bitmaps, share
from refbench.samples import (
    CellId,
    Environment,
    Measurement,
    MemorySnapshot,
    PhaseCounters,
    Run,
    Sample,
)
from refbench.words import Cell, Pattern

HERE = Environment(target="host", clock="real", kernel="6.18", arch="x86_64", page_size=4096)
PAGES = {"page-1-hash": 11, "page-2-hash": 22, "page-1-ns": 5}
NOTHING = MemorySnapshot(rss=0, rss_anon=0, rss_file=0, rss_shmem=0, hwm=0, pte=0, vmas=0)


def measured(
    mechanism: str, *values: Mapping[str, int], workload: str = "pdfium", key: str = ""
) -> Measurement:
    """One run of a sample for each of ``values``."""
    ended = replace(NOTHING, hwm=100 << 20, executed=True)
    return Measurement(
        cell=CellId(
            key=key or f"{workload}|{mechanism}",
            workload=workload,
            mechanism=mechanism,
            pattern="byte:0xAA",
        ),
        environment=HERE,
        runs=tuple(
            Run(
                samples=(
                    Sample(
                        index=0,
                        phases={"render": PhaseCounters(ns=10**9)},
                        memory={"start": NOTHING, "exit": ended},
                        values=value,
                    ),
                )
            )
            for value in values
        ),
    )


def supplied(of: int, supplied_: int) -> dict[str, int]:
    return {**PAGES, "private-bytes": of, "private-supplied-bytes": supplied_}


def test_equal_bitmaps_are_counted() -> None:
    found = bitmaps([measured("anon", PAGES, PAGES), measured("memset", {**PAGES, "page-1-ns": 9})])
    assert found is not None
    assert found.identical
    assert (found.pages, found.renderings, found.mechanisms) == (2, 3, 2)


@pytest.mark.parametrize(
    "odd", [{"page-1-hash": 11, "page-2-hash": 23}, {"page-1-hash": 11}, {"page-2-hash": 22}]
)
def test_one_bitmap_that_differs_or_is_missing_is_named(odd: Mapping[str, int]) -> None:
    found = bitmaps([measured("anon", PAGES, PAGES), measured("memset", PAGES, odd)])
    assert found is not None
    assert not found.identical
    assert found.different == ("memset",)
    assert len(found.different_pages) == 1


def test_a_workload_without_bitmaps_has_none() -> None:
    assert bitmaps([measured("anon", {})]) is None
    assert share(measured("anon", {})) is None


def test_the_least_share_of_all_samples_is_what_counts() -> None:
    assert share(measured("memset", supplied(100, 100), supplied(100, 96))) == 0.96
    assert share(measured("memset", supplied(0, 0))) is None


def shown(*all_: Measurement) -> str:
    found = beside(registry(), PDFIUM, all_)
    page = html.unescape(beside_html.section(PDFIUM, found))
    text = " ".join(beside_text.text(PDFIUM, found).split())
    for table in found[0].tables:
        for sentence in beside_text.of_the_program(table):
            assert sentence in text
            assert sentence in page
    return text


def test_the_report_says_that_they_are_identical_and_whose_memory_it_was() -> None:
    text = shown(measured("anon", supplied(100, 99)), measured("memset", supplied(100, 97)))
    assert "The bitmaps are byte-identical: 2 renderings of 2 pages under 2 mechanisms." in text
    assert "the mechanism supplied 97.0% at least (memset)" in text


def test_the_report_says_where_they_differ() -> None:
    odd = {f"page-{page}-hash": page for page in range(1, 9)}
    text = shown(measured("anon", odd, odd), measured("memset", PAGES))
    assert "The bitmaps differ: 3 renderings of 8 pages under 2 mechanisms" in text
    assert "page 1, 2, 3, 4, 5 and 3 more under memset" in text


def test_only_the_published_document_makes_it_reproduced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pypdfium2_raw", reason="the extra `pdfium` is not installed")
    pytest.importorskip("reportlab", reason="the extra `pdfium` is not installed")
    from refbench.pdfium.document import VOUCHED, generated

    path = tmp_path / "manual.pdf"
    path.write_bytes(generated().read_bytes())
    spec = Spec("pdfium", (("pdf", str(path)),))
    program = registry().workload(spec).program(spec, 4096)
    key = Cell(str(spec), Spec("anon"), Pattern(), program).key
    one = measured("anon", PAGES, workload=str(spec), key=key)

    def kind() -> str:
        return beside(registry(), PDFIUM, (one,))[0].kind

    monkeypatch.delenv(VOUCHED, raising=False)
    assert kind() == "re-enacted"
    monkeypatch.setenv(VOUCHED, file_digest(path).hex())
    assert kind() == "reproduced"
    # Another document at its place now: what was measured cannot be told any more.
    path.write_bytes(path.read_bytes() + b"\n")
    monkeypatch.setenv(VOUCHED, file_digest(path).hex())
    assert kind() == "re-enacted"
    path.unlink()
    assert kind() == "re-enacted"
