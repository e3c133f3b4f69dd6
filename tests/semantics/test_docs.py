"""docs/semantics.md says what the suite asks and expects; run this file to print its tables."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from refbench.grammar import Spec
from refbench.mechanisms import MECHANISMS
from refbench.plan import AHEAD_OF_KERNELS
from refbench.semantics import check
from refbench.semantics.matrix import SYMBOLS
from refbench.semantics.properties import PROPERTIES

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "semantics.md"
KERNEL = "6.17"
ALL = {item.name: item for item in MECHANISMS}


TODAY = check.DEFAULT_SPECS
AHEAD = tuple(Spec.parse(text, what="mechanism") for text in AHEAD_OF_KERNELS)


def table(chosen: tuple[Spec, ...]) -> list[str]:
    """The expected matrix on a kernel of today, with every privilege."""
    specs = [ALL[spec.name].canonical(spec) for spec in chosen]
    lines = [
        "| property | " + " | ".join(f"`{spec}`" for spec in specs) + " |",
        "|" + " --- |" * (len(specs) + 1),
    ]
    for name in PROPERTIES:
        cells = []
        for spec in specs:
            verdict, _ = check.expectation(ALL[spec.name], name, dict(spec.options), kernel=KERNEL)
            cells.append(SYMBOLS[verdict][0])
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return lines


def reasons() -> list[str]:
    """Why, by mechanism; properties that share verdict and reason share a line."""
    lines = []
    for mechanism in MECHANISMS:
        lines += ["", f"`{mechanism.name}`", ""] if mechanism.expected else []
        shared: dict[tuple[str, str], list[str]] = {}
        for key, (verdict, reason) in mechanism.expected.items():
            shared.setdefault((verdict.value, reason), []).append(key)
        for (word, why), keys in shared.items():
            lines.append(f"- {', '.join(f'`{key}`' for key in keys)}: {word}. {why}")
    return lines[1:]


def test_every_property_is_described() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert [name for name in PROPERTIES if f"| `{name}` | " not in text] == []
    assert f"{len(PROPERTIES)} questions" in text


@pytest.mark.parametrize("chosen", [TODAY, AHEAD], ids=["today", "ahead"])
def test_the_expected_matrix_is_the_one_that_is_checked(chosen: tuple[Spec, ...]) -> None:
    assert "\n".join(table(chosen)) in DOCUMENT.read_text(encoding="utf-8")


def test_every_expectation_is_explained() -> None:
    assert "\n".join(reasons()) in DOCUMENT.read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.stdout.write("\n".join([*table(TODAY), "", *table(AHEAD), "", *reasons(), ""]))
