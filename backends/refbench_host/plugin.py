"""What the distribution's entry point loads."""

from __future__ import annotations

from collections.abc import Iterable

from refbench.backend import Backend
from refbench.hookspecs import hookimpl
from refbench_host.backend import HostBackend

refbench_api_version = 1


@hookimpl
def refbench_backends() -> Iterable[Backend]:
    """This machine."""
    return (HostBackend(),)
