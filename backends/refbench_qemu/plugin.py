"""What the distribution's entry point loads."""

from __future__ import annotations

from collections.abc import Iterable

import click

from refbench.hookspecs import hookimpl

refbench_api_version = 1


@hookimpl
def refbench_commands() -> Iterable[click.Command]:
    """``refbench kernel``."""
    from refbench_qemu.kernel import commands

    return (commands.group,)
