"""The hooks of refbench: everything that a plugin can add, on one screen.

A plugin is a module or object behind an entry point of the group ``refbench``; it implements
some of these functions, each marked with :data:`hookimpl`, and says ``refbench_api_version = 1``.
"""

from __future__ import annotations

from collections.abc import Iterable

import click
import pluggy

from refbench.backend import Backend
from refbench.words import Case, Mechanism, Workload

PROJECT = "refbench"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def refbench_backends() -> Iterable[Backend]:  # type: ignore[empty-body]
    """Backends: where cells run."""


@hookspec
def refbench_mechanisms() -> Iterable[Mechanism]:  # type: ignore[empty-body]
    """Mechanisms, each with its C source."""


@hookspec
def refbench_workloads() -> Iterable[Workload]:  # type: ignore[empty-body]
    """Workloads: functions from parameters to programs."""


@hookspec
def refbench_cases() -> Iterable[Case]:  # type: ignore[empty-body]
    """Cases: named, frozen presets of workloads."""


@hookspec
def refbench_commands() -> Iterable[click.Command]:  # type: ignore[empty-body]
    """Commands under ``refbench``."""
