"""``refbench kernel``: building kernels to boot, and listing those that there are."""

from __future__ import annotations

import click

from refbench.cli.screen import Screen, grid, with_screen
from refbench.vm import kernels
from refbench.vm.kernels import Kernel

_LIST_EPILOG = """\b
Examples:
  refbench kernel list
  refbench run -b qemu:kernel=stock -b qemu:kernel=patched
"""


@click.group("kernel", short_help="Build kernels to boot in QEMU, and list them.")
def group() -> None:
    """Build kernels to boot in QEMU, and list them."""


@group.command("list", epilog=_LIST_EPILOG, short_help="List the kernels that were built.")
@with_screen
def list_command(screen: Screen) -> None:
    """List the kernels that were built, the one last asked for first.

    Of several with one name the first is the one that qemu:kernel=NAME boots.
    """
    found = kernels.built()
    if screen.json:
        screen.emit({"kernels": [_record(kernel) for kernel in found]})
        return
    if not found:
        screen.say(f"No kernel has been built. Build one: {kernels.COMMANDS[kernels.DEFAULT]}")
        return
    rows = [
        (
            kernel.name,
            kernel.version,
            kernel.arch,
            kernel.config,
            ", ".join(patch.name for patch in kernel.patches) or "none",
            kernel.digest[:12],
            str(kernel.image),
        )
        for kernel in found
    ]
    columns = ("kernel", "version", "arch", "config", "patches", "digest", "image")
    screen.table(grid(columns, rows))


def _record(kernel: Kernel) -> dict[str, object]:
    """A kernel as JSON."""
    return {
        "name": kernel.name,
        "version": kernel.version,
        "arch": kernel.arch,
        "config": kernel.config,
        "patches": kernel.patches,
        "image": str(kernel.image),
        "modules": None if kernel.modules is None else str(kernel.modules),
        "digest": kernel.digest,
        "source": kernel.source,
        "compiler": kernel.compiler,
        "build_id": kernel.build_id,
        "syscalls": kernel.syscalls,
    }
