"""``refbench kernel``: building kernels to boot, and listing those that there are."""

from __future__ import annotations

import click

from refbench.agent import host_arch
from refbench.cache import Cache
from refbench.cli.screen import Interrupted, Screen, duration, grid, with_screen
from refbench.vm import kernels
from refbench.vm.kernels import IMAGES, Kernel
from refbench_qemu.kernel import build, configure
from refbench_qemu.kernel.progress import watching
from refbench_qemu.kernel.recipe import Order, is_current, usual_name

_BUILD_EPILOG = """\b
Examples:
  refbench kernel build                              Debian's source with refbench's patches
  refbench kernel build --patches none               the same without: qemu:kernel=stock
  refbench kernel build --config debug               with the kernel's own checks
  refbench kernel build --source ~/linux --patches none --name mine

A kernel is built once for the same source, patches, configuration, modules and compiler, and is
kept in the artefact cache. The source is copied; a tree of yours is only read.
"""

_LIST_EPILOG = """\b
Examples:
  refbench kernel list
  refbench run -b qemu:kernel=stock -b qemu:kernel=patched
"""


@click.group("kernel", short_help="Build kernels to boot in QEMU, and list them.")
def group() -> None:
    """Build kernels to boot in QEMU, and list them."""


@group.command("build", epilog=_BUILD_EPILOG, short_help="Build a kernel.")
@click.option(
    "--arch",
    type=click.Choice(sorted(IMAGES)),
    default="x86_64",
    show_default=True,
    help="The architecture; another than this machine's needs a cross compiler.",
)
@click.option(
    "--config",
    type=click.Choice(configure.NAMES),
    default=configure.BASE,
    show_default=True,
    help="minimal: what measurements need; distro: with what a distribution turns on; "
    "debug: with checks of memory and locks.",
)
@click.option(
    "--source",
    metavar="TREE|TARBALL",
    default="",
    help="Linux of your own. [default: Debian's package linux-source-6.12]",
)
@click.option(
    "--patches",
    multiple=True,
    default=("default",),
    metavar="DIR|none|v1",
    help="A folder of *.patch files to apply in order, nothing, or refbench's with the first "
    "version of the series on top, for tests. Repeatable. [default: refbench's]",
)
@click.option("--name", default="", help="What qemu:kernel=NAME calls it. [default: patched, ...]")
@click.option(
    "--renew", is_flag=True, help="Take the newest source that Debian has, not the one kept here."
)
@with_screen
def build_command(
    screen: Screen,
    arch: str,
    config: str,
    source: str,
    patches: tuple[str, ...],
    name: str,
    *,
    renew: bool,
) -> None:
    """Build a kernel that qemu:kernel=NAME boots.

    Minutes when it is new, a moment when it is there.
    """
    order = Order(arch, config, source, patches, name, renew)
    try:
        with watching(screen, name or usual_name(order)) as progress:
            kernel = build.built(order, Cache.default(progress))
    except KeyboardInterrupt:
        raise Interrupted(
            "Interrupted; nothing half-built is kept.", remedy="Build it again when you like."
        ) from None
    if screen.json:
        screen.emit(_record(kernel))
        return
    took = f" in {duration(progress.seconds)}" if progress.built else ", built before"
    screen.say(f"{kernel.name}: Linux {kernel.version} for {kernel.arch}{took}.")
    screen.say(f"  from    {kernel.source}")
    screen.say(f"  image   {kernel.image}")
    other = "" if kernel.arch == host_arch() else f",arch={kernel.arch}"
    screen.say(f"Measure on it: refbench run -b qemu:kernel={kernel.name}{other}")


@group.command("list", epilog=_LIST_EPILOG, short_help="List the kernels that were built.")
@with_screen
def list_command(screen: Screen) -> None:
    """List the kernels that were built, the one last asked for first.

    Of several with one name the first is the one that qemu:kernel=NAME boots. One is not current
    when refbench's patches, configuration or modules have changed since.
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
            "\n".join(patch.name for patch in kernel.patches) or "none",
            kernel.digest[:12],
            "yes" if is_current(kernel) else "no: build it again",
        )
        for kernel in found
    ]
    screen.table(
        grid(("kernel", "version", "arch", "config", "patches", "digest", "current"), rows)
    )


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
        "current": is_current(kernel),
        "syscalls": kernel.syscalls,
    }
