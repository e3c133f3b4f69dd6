"""Colours and markers: the same mechanism looks the same in every plot of every report.

The colours of mechanisms are those of Okabe and Ito (Color Universal Design, 2008), darkened or
replaced where they would vanish on white or on black; those of phases are Tol's "bright" scheme
(Colour Schemes, SRON 2021). Both can be told apart with any colour vision; the marker and the
label say it once more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

_MECHANISMS = {
    "anon": "#7f7f7f",
    "memset": "#d55e00",
    "memfd": "#0072b2",
    "memfd-full": "#56b4e9",
    "uffd": "#009e73",
    "uffd-sigbus": "#b8a100",
    "segv": "#cc79a7",
    "ksm": "#e69f00",
    "refpage": "#8a5fd3",
    "refpage-mmap": "#a6761d",
    "refpage-dev": "#e7298a",
}
_OTHERS = ("#4e79a7", "#b07aa1", "#76803d", "#c2562d", "#3f8f8f", "#9c6b3f")
_PHASES = {
    "map": "#4477aa",
    "touch": "#ee6677",
    "unmap": "#9c9c9c",
    "fork": "#ccbb44",
    "child": "#228833",
    "parent": "#66ccee",
    "exit": "#aa3377",
}
_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "h", "p", "d")


def mechanism(text: str) -> str:
    """The colour of a mechanism; its options do not change it."""
    name = text.partition(":")[0]
    return _MECHANISMS.get(name) or _OTHERS[_number(name) % len(_OTHERS)]


def phase(name: str) -> str:
    """The colour of a phase."""
    return _PHASES.get(name) or _OTHERS[_number(name) % len(_OTHERS)]


def markers(mechanisms: Iterable[str]) -> Mapping[str, str]:
    """A marker for each mechanism of a report, different as long as they last."""
    names = sorted(set(mechanisms))
    return {name: _MARKERS[at % len(_MARKERS)] for at, name in enumerate(names)}


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
