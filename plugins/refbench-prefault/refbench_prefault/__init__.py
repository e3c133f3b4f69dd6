"""The mechanism ``prefault``: memset after MADV_POPULATE_WRITE, piece by piece."""

from collections.abc import Iterable
from pathlib import Path

from refbench.grammar import Option
from refbench.hookspecs import hookimpl
from refbench.words import Mechanism, Verdict

refbench_api_version = 1

NOT_MET, UNAVAILABLE = Verdict.NOT_MET, Verdict.UNAVAILABLE
NO_REFERENCE = (UNAVAILABLE, "The pattern is copied when mapped; no page stays behind.")

PREFAULT = Mechanism(
    "prefault",
    "anonymous memory, made present by MADV_POPULATE_WRITE and filled piece by piece",
    options=(
        Option("piece", "size", 0, "bytes made present and filled at a time, 0: all", minimum=0),
    ),
    sources=(Path(__file__).with_name("prefault.c"),),
    populates="map",
    model="refbench_prefault.model:Prefault",
    expected={
        "dontneed": (NOT_MET, "The pattern is in the pages alone; fresh ones are zero."),
        "free-reclaimed": (NOT_MET, "A reclaimed page comes back as zero."),
        "remap-grow": (NOT_MET, "What mremap adds is fresh anonymous memory: zero."),
        "clean-charged": (NOT_MET, "Every page is filled, and so charged, when it is mapped."),
        "userfault": (NOT_MET, "Every page is filled when mapped, so that none is missing."),
        "neighbour-vma": (NOT_MET, "The kernel merges it with anonymous memory beside it."),
        "reference-changed": NO_REFERENCE,
        "reference-truncated": NO_REFERENCE,
        "reference-unmapped": NO_REFERENCE,
        "reference-charged": NO_REFERENCE,
    },
)


@hookimpl
def refbench_mechanisms() -> Iterable[Mechanism]:
    """The one registration."""
    return (PREFAULT,)
