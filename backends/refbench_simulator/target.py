"""The target ``simulator`` and its options: from what is written to the kernel that is meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from refbench.errors import UsageError
from refbench.grammar import Option, Spec, Values, resolve
from refbench_simulator import cost_files
from refbench_simulator.knobs import Kernel
from refbench_simulator.machine import Machine, this_machine
from refbench_simulator.saved import load
from refbench_simulator.settings import AUTO, KNOBS, given, kernel_of, override

NAME = "simulator"
STOCK = Machine("a stock kernel", {})
OPTIONS: Sequence[Option] = (
    *(knob.option for knob in KNOBS),
    Option(
        "like",
        "choice",
        "none",
        "host: every knob that is auto as on this machine",
        choices=("none", "host"),
    ),
    Option(
        "from",
        "path",
        "",
        "every knob that is auto as in this file: a machine description or a journal",
    ),
    Option(
        "costs",
        "text",
        cost_files.DEFAULT,
        "the cost table that times come from: a file (.toml), or a name of `refbench calibrate`",
    ),
    Option(
        "session",
        "int",
        AUTO,
        "with from=JOURNAL: the number of the session whose machine is meant",
        minimum=0,
    ),
)


def machine_of(options: Values) -> Machine:
    """The machine that the target's options name, without the knobs that they set themselves.

    :raises BackendError: for ``like=host`` where it is not Linux.
    :raises UsageError: for a machine that the model does not know, a bad file, a contradiction.
    :raises StorageError: for a damaged journal.
    """
    explicit = given(options)
    file = options.text("from")
    host = options.text("like") == "host"
    session = None if options.values["session"] == AUTO else options.integer("session")
    if host and file:
        raise UsageError(
            f"The target {NAME!r} cannot be like this machine and like {file} at once.",
            remedy="Give either like=host or from=FILE.",
        )
    if session is not None and not file:
        raise UsageError(
            f"The option 'session' of the target {NAME!r} chooses in a journal, and there is none.",
            remedy="Give from=JOURNAL too, or leave it out.",
        )
    if host:
        return this_machine(explicit)
    return load(Path(file).expanduser(), session, explicit) if file else STOCK


def kernel(options: Values) -> Kernel:
    """The kernel that the target's options mean; errors as for :func:`machine_of`."""
    return kernel_like(machine_of(options), options)


def kernel_like(machine: Machine, options: Values) -> Kernel:
    """The kernel of a machine, under the knobs that the options set.

    :raises UsageError: when they contradict one another.
    """
    return kernel_of(override(machine.knobs, given(options)))


def options_of(spec: Spec) -> Values:
    """The checked options of a target that must be the simulator.

    :raises UsageError: for another target and for options that make no sense.
    """
    if spec.name != NAME:
        raise UsageError(
            f"The target {spec.name!r} is not the simulator, which this is about.",
            remedy=f"Write {NAME} or {NAME}:KEY=VALUE,...",
        )
    return resolve(spec, OPTIONS, what="target")
