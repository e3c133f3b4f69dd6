"""The HTML report: one file, well formed, complete and legible without any other."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from refbench.errors import StorageError
from refbench.report import html
from refbench.samples import Environment, Measurement

Make = Callable[..., tuple[Measurement, ...]]
VOID = {"meta", "br", "link", "img", "input", "hr", "use", "path"}


class Page(HTMLParser):
    """Collects ids, references and text, and checks that tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self._attributes(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._attributes(attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def _attributes(self, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.ids.append(value)
            if name in {"href", "xlink:href", "src"} and value:
                self.links.append(value)


@pytest.fixture(scope="module")
def page(make: Make, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("html") / "report.html"
    html.write(path, make())
    return path.read_text(encoding="utf-8")


def test_tags_are_balanced_and_ids_unique(page: str) -> None:
    parsed = Page(page)
    assert not parsed.open
    assert [name for name, times in Counter(parsed.ids).items() if times > 1] == []


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    parsed = Page(page)
    assert all(link.startswith("#") for link in parsed.links)
    assert {link[1:] for link in parsed.links} <= set(parsed.ids)
    assert "<script" not in page
    assert not re.search(r"url\((?!#)", page)
    assert "@import" not in page


def test_it_holds_the_numbers_the_failures_and_the_environment(page: str) -> None:
    text = Page(page).text
    for words in ("64.0 MiB", "16384", "1024", "limit hit [2]", "KSM is off.", "Shmem", "slab"):
        assert words in text
    assert "A <CPU> & more" in text
    assert "4096 bytes <are> wrong." in text


def test_each_case_has_its_plots_with_words_for_who_cannot_see_them(page: str) -> None:
    assert page.count("<svg") == 2 * 4
    assert page.count('role="img" aria-label="') == 2 * 4


def test_plots_take_their_ink_from_the_page(page: str) -> None:
    svg = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert "var(--ink)" in svg
    assert not re.search(r"(fill|stroke): ?(#000000|#ffffff|black|white)", svg)
    assert ">memfd-full</text>" in svg


def test_two_clocks_never_share_a_table(make: Make) -> None:
    model = Environment(target="simulator", clock="modelled", kernel="-", arch="-", page_size=4096)
    text = html.text(make() + make(where=model))
    assert not Page(text).open
    for table in re.findall(r"<table>.*?</table>", text, re.DOTALL):
        assert not ("(model)" in table and re.search(r">\s*time\s*<", table))
    assert "time (model)" in text


def test_odd_measurements_still_give_a_page(make: Make) -> None:
    only_failures = tuple(one for one in make() if one.failure)
    assert "limit hit" in html.text(only_failures)
    one_run = make(runs=1, failures=False)[:1]
    assert "<svg" in html.text(one_run)
    named = replace(one_run[0], cell=replace(one_run[0].cell, case="", mechanism="x:a=<b>"))
    assert "x:a=&lt;b&gt;" in html.text((named,))


def test_a_path_that_cannot_be_written_is_an_error_with_a_remedy(
    make: Make, tmp_path: Path
) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        html.write(tmp_path / "missing" / "report.html", make(failures=False)[:1])
