"""``refbench machine``: the knobs of a machine, and saving them for the simulator."""

from __future__ import annotations

from pathlib import Path

import click

from refbench.cli.screen import Screen, grid, with_screen
from refbench_simulator.knobs import MEASURED, Kernel
from refbench_simulator.machine import Machine
from refbench_simulator.options import from_option, simulated
from refbench_simulator.saved import save
from refbench_simulator.settings import BY_NAME, KNOBS, given, knobs_of, spell
from refbench_simulator.target import NAME, kernel_like, machine_of, options_of

_EPILOG = """\b
Examples:
  refbench machine                            the settings that like=host reads off this machine
  refbench machine --save lab.toml            keep them: simulator:from=lab.toml
  refbench machine --from reports/A           the machine that a journal was measured on
  refbench machine simulator:like=host,page=64KiB,swap=1GiB --save arm.toml
"""


@click.command("machine", epilog=_EPILOG, short_help="Settings of a machine, for the simulator.")
@click.argument("target", metavar="[TARGET]", default="")
@from_option
@click.option(
    "--save",
    "save_to",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a machine description (TOML) that from=FILE and --from FILE read.",
)
@with_screen
def command(screen: Screen, target: str, source: Path | None, save_to: Path | None) -> None:
    """Show the settings that the simulator takes from a machine, and keep them in a file.

    TARGET is the simulator with its options; without it and without --from, this machine:
    simulator:like=host.
    """
    spec = simulated(target or (NAME if source else f"{NAME}:like=host"), source)
    options = options_of(spec)
    machine = machine_of(options)
    kernel = kernel_like(machine, options)
    if save_to is not None:
        save(kernel, save_to, f"{kernel}, {machine.name}")
    told = _told_by(machine, frozenset(given(options)))
    if screen.json:
        screen.emit(
            {
                "machine": machine.name,
                "knobs": knobs_of(kernel),
                "told_by": told,
                "unmodelled": machine.unmodelled,
                "saved": None if save_to is None else str(save_to),
            }
        )
        return
    _show(screen, machine, kernel, told)
    if save_to is not None:
        screen.say()
        screen.say(f"Saved: simulate it with simulator:from={save_to}.")


def _told_by(machine: Machine, explicit: frozenset[str]) -> dict[str, str]:
    """Where the value of each knob comes from."""
    told = {}
    for knob in KNOBS:
        if knob.name in explicit:
            told[knob.name] = "given"
        else:
            told[knob.name] = "machine" if knob.name in machine.knobs else "stock"
    return told


def _show(screen: Screen, machine: Machine, kernel: Kernel, told: dict[str, str]) -> None:
    knobs = knobs_of(kernel)
    rows = [
        (
            knob.name,
            spell(knob.name, knobs[knob.name]) if knob.name in knobs else "unlimited",
            told[knob.name],
            BY_NAME[knob.name].option.help,
        )
        for knob in KNOBS
    ]
    title = f"{kernel}: {machine.name}"
    screen.table(grid(("knob", "value", "told by", "what it is"), rows, title=title))
    notes = list(machine.unmodelled)
    if kernel.release > MEASURED:
        newest = f"{MEASURED[0]}.{MEASURED[1]}"
        notes.append(f"The model was compared with kernels up to Linux {newest}.")
    for note in notes:
        screen.say(f"Not modelled: {note}")
