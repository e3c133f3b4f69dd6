"""``refbench backends``: where cells can run, and which plugins are broken."""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec
from rich.text import Text

from refbench.backend import Backend
from refbench.cli.listing import OptionRecord, lines, records, yes_or_no
from refbench.cli.options import expand_targets
from refbench.cli.screen import Screen, grid, with_screen
from refbench.errors import RefbenchError
from refbench.grammar import Spec
from refbench.plugins import PluginFault, Registry, registry
from refbench.runner import open_target
from refbench.testing import Finding, examine
from refbench.words import Availability, Capabilities

_EPILOG = """\b
Examples:
  refbench backends                    what there is, and why something is not
  refbench backends --open             open what works and show what it can do
  refbench backends --open host --json
  refbench backends --verify mine:host=board1   is the backend that I wrote right?

Exits 1 when --verify finds a broken promise.
"""


class BackendRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A backend as JSON."""

    name: str
    summary: str
    plugin: str
    available: bool
    reason: str
    remedy: str
    options: tuple[OptionRecord, ...]


class OpenRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A target that was opened, or why it could not be, as JSON."""

    target: str
    error: str
    capabilities: Capabilities | None


@click.command(epilog=_EPILOG, short_help="List backends, and plugins with faults.")
@click.argument("targets", metavar="[TARGET]...", nargs=-1)
@click.option("-v", "--open", "opened", is_flag=True, help="Open it and show its capabilities.")
@click.option("--verify", is_flag=True, help="Open it and examine what the interface promises.")
@with_screen
def command(screen: Screen, targets: tuple[str, ...], opened: bool, verify: bool) -> None:
    """List backends with their options, and plugins with their faults."""
    from refbench.cli.program import faults

    plugins = registry()
    chosen = expand_targets(targets, plugins.backends) if targets else tuple(plugins.backends)
    specs = [Spec.parse(text, what="target") for text in chosen]
    backends = dict.fromkeys(spec.name for spec in specs)
    found = tuple(
        _record(plugins, plugins.backend(Spec(name)), plugins.backend(Spec(name)).probe())
        for name in backends
    )
    broken = faults(plugins)
    available = {record.name for record in found if record.available}
    details = (
        tuple(_open(plugins, str(spec)) for spec in specs if targets or spec.name in available)
        if opened
        else ()
    )
    verified: dict[str, list[Finding]] = {}
    if verify:
        for spec in specs:
            screen.note(f"Examining {spec}: some seconds.")
            verified[str(spec)] = list(examine(str(spec)))
    if screen.json:
        screen.emit({"backends": found, "faults": broken, "opened": details, "verified": verified})
    else:
        _show(screen, found)
        for detail in details:
            _show_open(screen, detail)
        for name, findings in verified.items():
            _show_verified(screen, name, findings)
        _show_faults(screen, broken)
    if any(finding.broken for findings in verified.values() for finding in findings):
        raise click.exceptions.Exit(1)


def _record(plugins: Registry, backend: Backend, availability: Availability) -> BackendRecord:
    return BackendRecord(
        name=backend.name,
        summary=backend.summary,
        plugin=plugins.origins.get(f"backend {backend.name}", ""),
        available=availability.ok,
        reason=availability.reason,
        remedy=availability.remedy,
        options=records(backend.options),
    )


def _open(plugins: Registry, text: str) -> OpenRecord:
    try:
        target, session = open_target(plugins, text)
        with session:
            capabilities = session.capabilities()
    except RefbenchError as error:
        return OpenRecord(target=text, error=str(error), capabilities=None)
    return OpenRecord(target=str(target), error="", capabilities=capabilities)


def _show(screen: Screen, found: tuple[BackendRecord, ...]) -> None:
    plugins = registry()
    screen.table(
        grid(
            ("backend", "here", "options", "plugin", "what it is"),
            [
                (
                    record.name,
                    yes_or_no(record.available),
                    lines(plugins.backends[record.name].options),
                    record.plugin,
                    record.summary,
                )
                for record in found
            ],
        )
    )
    for record in found:
        if not record.available:
            screen.say(f"{record.name}: {record.reason} {record.remedy}".rstrip())


def _show_open(screen: Screen, detail: OpenRecord) -> None:
    screen.say()
    capabilities = detail.capabilities
    if capabilities is None:
        screen.say(f"{detail.target} cannot be opened: {detail.error}")
        return
    screen.say(
        f"{detail.target}: Linux {capabilities.kernel}, {capabilities.arch}, pages of "
        f"{capabilities.page_size} bytes",
        style="bold",
    )
    for title, things in (
        ("mechanism", capabilities.mechanisms),
        ("metrics", capabilities.metrics),
    ):
        rows = [
            (name, yes_or_no(item.ok), f"{item.reason} {item.remedy}".strip())
            for name, item in things.items()
        ]
        screen.table(grid((title, "here", "why not, and the remedy"), rows))
    facts = sorted(capabilities.environment.items())
    screen.table(grid(("environment", ""), facts))


def _show_verified(screen: Screen, target: str, findings: Sequence[Finding]) -> None:
    rows = [
        (finding.promise, _became(finding), finding.broken or finding.left_out)
        for finding in findings
    ]
    screen.say()
    screen.table(grid(("promise", "", "what happened instead"), rows, title=target))


def _show_faults(screen: Screen, faults: tuple[PluginFault, ...]) -> None:
    if faults:
        screen.say()
        screen.say("Plugins with faults (the others work):", style="bold")
    for fault in faults:
        origin = f" ({fault.distribution})" if fault.distribution else ""
        screen.say(f"  {fault.plugin}{origin}: {fault.message}. {fault.remedy}")


def _became(finding: Finding) -> Text:
    if finding.broken:
        return Text("broken", style="bold red")
    return Text("left out", style="yellow") if finding.left_out else Text("kept", style="green")
