"""A plugin that misspells the name of a hook."""

from collections.abc import Iterable

from refbench.backend import Backend
from refbench.hookspecs import hookimpl

refbench_api_version = 1


@hookimpl
def refbench_backend() -> Iterable[Backend]:
    """The hook's name is refbench_backends."""
    return ()
