"""refbench's own mechanisms, workloads and cases, registered through the door for everybody."""

from __future__ import annotations

from collections.abc import Iterable

from refbench.backend import API_VERSION
from refbench.hookspecs import hookimpl
from refbench.mechanisms import MECHANISMS
from refbench.words import Case, Mechanism, Workload
from refbench.workloads import CASES, EXECUTED_CASES, TRACE_CASES, WORKLOADS

refbench_api_version = API_VERSION


@hookimpl
def refbench_mechanisms() -> Iterable[Mechanism]:
    """The mechanisms of a stock kernel."""
    return MECHANISMS


@hookimpl
def refbench_workloads() -> Iterable[Workload]:
    """The synthetic workloads."""
    return WORKLOADS


@hookimpl
def refbench_cases() -> Iterable[Case]:
    """The presets that the history tracks."""
    return (*CASES, *EXECUTED_CASES, *TRACE_CASES)
