"""The renderer and the generated document, and a way to let one draw the other.

pytest has loaded this file as tests.pdfium.conftest: test files import its types from there.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from refbench.pdfium.document import generated
from refbench.pdfium.library import Renderer, renderer

SECONDS = 60


@dataclass(frozen=True)
class Drawing:
    """What the renderer did: its end, and the numbers that it reported."""

    code: int
    stderr: str
    numbers: Mapping[str, int] = field(default_factory=dict)

    @property
    def hashes(self) -> dict[str, int]:
        """The bitmaps, as `page-N-hash` has them."""
        return {name: value for name, value in self.numbers.items() if name.endswith("-hash")}


Draw = Callable[..., Drawing]


@pytest.fixture(scope="session")
def tool() -> Renderer:
    """The renderer for the library that is installed."""
    return renderer()


@pytest.fixture(scope="session")
def manual() -> Path:
    """The generated document."""
    return generated()


@pytest.fixture
def draw(tool: Renderer, manual: Path, tmp_path: Path) -> Draw:
    """``draw("--pages", "12-16", document=..., env=...)``: run the renderer with a report."""

    def run(
        *arguments: str,
        document: Path | None = None,
        library: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Drawing:
        target = tmp_path / "report"
        place = document or manual
        argv = [
            str(tool.program),
            "--library",
            str(library or tool.library),
            *arguments,
            str(place),
        ]
        done = subprocess.run(
            ["/bin/sh", "-c", 'exec "$@" 3>"$0"', target, *argv],
            capture_output=True,
            text=True,
            env={**os.environ, **(env or {})},
            timeout=SECONDS,
        )
        lines = (line.split() for line in target.read_text(encoding="ascii").splitlines())
        return Drawing(done.returncode, done.stderr, {name: int(number) for name, number in lines})

    return run
