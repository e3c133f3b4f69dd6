"""``refbench check``: is a mechanism right, before it is fast?"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from refbench.cli.options import expand_targets, mechanism_option, target_option
from refbench.cli.progress import still_bar
from refbench.cli.screen import Screen, grid, with_screen
from refbench.errors import UsageError
from refbench.grammar import Spec, suggest
from refbench.plan import ahead, select_mechanisms
from refbench.plugins import Registry, registry
from refbench.runner import open_target
from refbench.semantics import check, matrix
from refbench.semantics.matrix import Matrix
from refbench.semantics.properties import PROPERTIES
from refbench.semantics.property import Property
from refbench.words import Capabilities, Pattern

_EPILOG = """\b
Examples:
  refbench check                                    every property of every mechanism
  refbench check -m uffd* --property fork-*
  refbench check --list                             what the properties are
  refbench check -m memfd --verbose                 with the evidence of what was met

Exits 1 when a verdict is another than the one that was committed beforehand. An expected
failure (userfaultfd without fork events loses the pattern in a child) exits 0.
"""


@click.command(epilog=_EPILOG, short_help="Examine what mechanisms promise: the semantics matrix.")
@target_option
@mechanism_option
@click.option(
    "--property",
    "properties",
    metavar="GLOB",
    multiple=True,
    help="Which properties. Repeatable. [default: all]",
)
@click.option(
    "--pattern",
    default="byte:0xAA",
    show_default=True,
    help="Initial content of a page: byte:0xAA, file:PATH, tag:5 or a sum of them.",
)
@click.option("--list", "listing", is_flag=True, help="List the properties and examine nothing.")
@click.option("-v", "--verbose", is_flag=True, help="Show the evidence of what was met, too.")
@click.option("--markdown", is_flag=True, help="Write Markdown to standard output.")
@with_screen
def command(
    screen: Screen,
    targets: tuple[str, ...],
    mechanisms: tuple[str, ...],
    properties: tuple[str, ...],
    pattern: str,
    listing: bool,
    verbose: bool,
    markdown: bool,
) -> None:
    """Examine what mechanisms promise, and compare with what is expected of each."""
    plugins = registry()
    chosen = _properties(properties)
    if listing:
        _list(screen, chosen)
        return
    if mechanisms:
        select_mechanisms(plugins, mechanisms)
    content = Pattern.parse(pattern)
    found: dict[str, Matrix] = {}
    for text in expand_targets(targets, plugins.backends):
        target, session = open_target(plugins, text)
        with session, _progress(screen, str(target)) as progress:
            specs = _specs(plugins, mechanisms, session.capabilities())
            found[str(target)] = check.run(
                session, plugins.mechanisms, specs, chosen, progress, pattern=content
            )
    if screen.json:
        screen.emit({"targets": found})
    else:
        for name, result in found.items():
            if markdown:
                click.echo(f"## {name}\n\n{matrix.markdown(result)}", nl=False)
            else:
                screen.say(name, style="bold")
                matrix.render(screen.out, result, verbose=verbose)
    if any(result.unexpected for result in found.values()):
        raise click.exceptions.Exit(1)


def _properties(globs: Sequence[str]) -> tuple[Property, ...]:
    chosen: dict[str, Property] = {}
    for glob in globs or ("*",):
        names = fnmatch.filter(PROPERTIES, glob)
        if not names:
            raise UsageError(f"There is no property {glob!r}.", remedy=suggest(glob, PROPERTIES))
        chosen.update((name, PROPERTIES[name]) for name in names)
    return tuple(chosen.values())


def _specs(plugins: Registry, texts: Sequence[str], capabilities: Capabilities) -> tuple[Spec, ...]:
    if texts:
        return select_mechanisms(plugins, texts)
    more = ahead(plugins, capabilities.mechanisms)
    return tuple(
        plugins.mechanism(spec).canonical(spec)
        for spec in (*check.DEFAULT_SPECS, *(Spec.parse(text, what="mechanism") for text in more))
        if spec.name in plugins.mechanisms
    )


def _list(screen: Screen, properties: Sequence[Property]) -> None:
    if screen.json:
        screen.emit(
            {
                "properties": [
                    {"name": item.name, "title": item.title, "answers": item.answers}
                    for item in properties
                ]
            }
        )
        return
    rows = [(item.name, item.title, item.answers) for item in properties]
    screen.table(grid(("property", "met when", "answers"), rows))


@contextmanager
def _progress(screen: Screen, target: str) -> Iterator[check.Progress | None]:
    """A bar that is drawn between examinations, never during one."""
    if not screen.live:
        yield None
        return
    bar = still_bar(screen)
    with bar:
        task = bar.add_task(target, total=None)

        def draw(done: int, total: int, label: str) -> None:
            bar.update(task, completed=done, total=total, description=f"{target} {label}")
            bar.refresh()

        yield draw
