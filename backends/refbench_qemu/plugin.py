"""What the distribution's entry point loads."""

from __future__ import annotations

from collections.abc import Iterable

import click

from refbench.backend import Backend
from refbench.hookspecs import hookimpl
from refbench_qemu.backend import QemuBackend

refbench_api_version = 1


@hookimpl
def refbench_backends() -> Iterable[Backend]:
    """Guests in QEMU."""
    return (QemuBackend(),)


@hookimpl
def refbench_commands() -> Iterable[click.Command]:
    """``refbench kernel``."""
    from refbench_qemu.kernel import commands

    return (commands.group,)
