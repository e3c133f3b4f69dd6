"""A plugin whose hook raises when it is called."""

from collections.abc import Iterable

from refbench.hookspecs import hookimpl
from refbench.words import Mechanism

refbench_api_version = 1


@hookimpl
def refbench_mechanisms() -> Iterable[Mechanism]:
    """Fails when it is asked."""
    raise OSError("the driver's folder is gone")
