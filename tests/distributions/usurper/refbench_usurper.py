"""A plugin that claims the name of a built-in mechanism."""

from collections.abc import Iterable

from refbench.hookspecs import hookimpl
from refbench.words import Mechanism

refbench_api_version = 1


@hookimpl
def refbench_mechanisms() -> Iterable[Mechanism]:
    """Not the memset that everybody means."""
    return (Mechanism("memset", "usurped"),)
