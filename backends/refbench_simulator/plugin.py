"""What the distribution's entry point loads."""

from __future__ import annotations

from collections.abc import Iterable

import click

from refbench.backend import Backend
from refbench.hookspecs import hookimpl
from refbench.words import Workload
from refbench_simulator.backend import SimulatorBackend

refbench_api_version = 1


@hookimpl
def refbench_backends() -> Iterable[Backend]:
    """The simulator."""
    return (SimulatorBackend(),)


@hookimpl
def refbench_workloads() -> Iterable[Workload]:
    """What calibration measures beside the workloads of everybody."""
    from refbench_simulator import calls

    return (calls.WORKLOAD,)


@hookimpl
def refbench_commands() -> Iterable[click.Command]:
    """The commands that are about the simulator alone."""
    from refbench_simulator import calibrating, explain_command, machine_command

    return (machine_command.command, calibrating.command, explain_command.command)
