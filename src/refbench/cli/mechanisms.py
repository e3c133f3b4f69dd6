"""``refbench mechanisms``: what gives fresh memory its content."""

from __future__ import annotations

import fnmatch
from typing import Any

import click
import msgspec

from refbench.cli.listing import OptionRecord, lines, records, yes_or_no
from refbench.cli.options import target_option
from refbench.cli.screen import Screen, grid, with_screen
from refbench.errors import UsageError
from refbench.grammar import suggest
from refbench.plugins import Registry, registry
from refbench.runner import open_target
from refbench.words import Availability

_EPILOG = """\b
Examples:
  refbench mechanisms
  refbench mechanisms uffd* -b host    do they work here, and if not, why
"""


class MechanismRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A mechanism as JSON."""

    name: str
    summary: str
    plugin: str
    applies_pattern: bool
    owns_signals: bool
    options: tuple[OptionRecord, ...]
    targets: dict[str, Availability]


@click.command(epilog=_EPILOG, short_help="List mechanisms and their options.")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@target_option
@with_screen
def command(screen: Screen, names: tuple[str, ...], targets: tuple[str, ...]) -> None:
    """List mechanisms with their options; with -b also whether they work on a target."""
    plugins = registry()
    known = plugins.mechanisms
    chosen: list[str] = []
    for name in names or ("*",):
        matching = fnmatch.filter(sorted(known), name)
        if not matching and (names or known):
            raise UsageError(f"There is no mechanism {name!r}.", remedy=suggest(name, known))
        chosen += [match for match in matching if match not in chosen]
    there = {text: _available(plugins, text) for text in targets}
    found = [_record(plugins, name, there) for name in chosen]
    if screen.json:
        screen.emit({"mechanisms": found})
        return
    rows: list[tuple[Any, ...]] = [
        (
            record.name,
            *(yes_or_no(record.targets[text].ok) for text in targets),
            lines(known[record.name].options),
            record.summary,
        )
        for record in found
    ]
    screen.table(grid(("mechanism", *targets, "options", "what it is"), rows))
    for record in found:
        for text, item in record.targets.items():
            if not item.ok:
                screen.say(f"{record.name} on {text}: {item.reason} {item.remedy}".rstrip())


def _available(plugins: Registry, text: str) -> dict[str, Availability]:
    _, session = open_target(plugins, text)
    with session:
        return dict(session.capabilities().mechanisms)


def _record(
    plugins: Registry, name: str, there: dict[str, dict[str, Availability]]
) -> MechanismRecord:
    mechanism = plugins.mechanisms[name]
    unknown = Availability(False, "The target does not know it.")
    return MechanismRecord(
        name=name,
        summary=mechanism.summary,
        plugin=plugins.origins.get(f"mechanism {name}", ""),
        applies_pattern=mechanism.applies_pattern,
        owns_signals=mechanism.owns_signals,
        options=records(mechanism.options),
        targets={text: items.get(name, unknown) for text, items in there.items()},
    )
