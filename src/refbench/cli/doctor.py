"""``refbench doctor``: what might spoil a measurement here, or rule a mechanism out."""

from __future__ import annotations

import click
from rich.text import Text

from refbench.cli import kernel_checks, machine_checks, own_checks
from refbench.cli.findings import Level
from refbench.cli.options import expand_targets, target_option
from refbench.cli.screen import Screen, count, grid, with_screen
from refbench.plugins import registry

_EPILOG = """\b
Examples:
  refbench doctor
  refbench doctor --json -b host:cpu=any

Exits 1 when a problem makes measuring impossible, 0 with warnings.
"""
_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}


@click.command(epilog=_EPILOG, short_help="Find what might spoil a measurement here.")
@target_option
@with_screen
def command(screen: Screen, targets: tuple[str, ...]) -> None:
    """Look at this machine, its kernel and refbench itself, and say what to do."""
    plugins = registry()
    found = [
        *own_checks.findings(plugins, expand_targets(targets, plugins.backends)),
        *kernel_checks.findings(),
        *machine_checks.findings(),
    ]
    counts = {level: sum(item.level is level for item in found) for level in Level}
    if screen.json:
        screen.emit({"findings": found, **{level.value: n for level, n in counts.items()}})
    else:
        rows = [
            (
                Text(item.level.value, style=_STYLES[item.level]),
                item.what,
                f"{item.detail}\n{item.remedy}" if item.remedy else item.detail,
            )
            for item in found
        ]
        screen.table(grid(("", "", ""), rows))
        screen.say(
            f"{count(counts[Level.PROBLEM], 'problem')}, "
            f"{count(counts[Level.WARNING], 'warning')}, "
            f"{counts[Level.OK]} fine."
        )
    if counts[Level.PROBLEM]:
        raise click.exceptions.Exit(1)
