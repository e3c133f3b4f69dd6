"""The mechanism ``plant``: memset, and a fault of the kernel while it is set up."""

from collections.abc import Iterable
from pathlib import Path

from refbench.grammar import Option
from refbench.hookspecs import hookimpl
from refbench.words import Mechanism

refbench_api_version = 1

FAULTS = (
    "none",
    "oops",
    "bug",
    "warn",
    "panic",
    "softlockup",
    "rcustall",
    "hungtask",
    "oom",
    "rss",
    "badpage",
    "list",
    "uaf",
    "lockorder",
    "silent",
    "v1",
)

PLANT = Mechanism(
    "plant",
    "memset, in a process that has its kernel at fault",
    options=(
        Option("fault", "choice", "none", "what is planted", choices=FAULTS),
        Option("seconds", "int", 6, "how long a lockup or a stall lasts", minimum=1, maximum=60),
    ),
    sources=(Path(__file__).with_name("plant.c"),),
    populates="map",
)


@hookimpl
def refbench_mechanisms() -> Iterable[Mechanism]:
    """The one registration."""
    return (PLANT,)
