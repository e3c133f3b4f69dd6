"""Explanations as JSON: the story, the phases and the summary of every cell."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from refbench_simulator.explaining import Explained
from refbench_simulator.model.events import Event
from refbench_simulator.picture import Picture
from refbench_simulator.rules import Rule
from refbench_simulator.session import SimulatorSession
from refbench_simulator.telling import Action, Block, Told
from refbench_simulator.work import by_kind


def document(
    target: str, session: SimulatorSession, found: Sequence[Explained]
) -> dict[str, object]:
    """Every number of time is modelled nanoseconds, of memory bytes; ``clock_note`` and
    ``error`` say how wrong the times are."""
    costs, kernel = session.costs, session.kernel
    return {
        "target": target,
        "kernel": kernel.version,
        "page_size": kernel.page_size,
        "clock_note": costs.note(kernel),
        "error": dataclasses.asdict(costs.error),
        "assumed": sorted(event.value for event in costs.assumed),
        "cells": [_cell(session, item) for item in found],
    }


def _cell(session: SimulatorSession, item: Explained) -> dict[str, object]:
    cell = item.cell
    failure, summary = item.failure, item.summary
    return {
        "workload": cell.workload,
        "case": cell.case,
        "mechanism": str(cell.mechanism),
        "pattern": cell.pattern.text,
        "asked": item.asked,
        "failure": None if failure is None else dataclasses.asdict(failure),
        "summary": None if summary is None else dataclasses.asdict(summary),
        "phases": {
            name: {
                "events": _events(total.events),
                "counters": dict(total.counters),
                "ns": session.costs.time(total.events, session.kernel.page_size).ns,
                "times": by_kind(total.events, session.costs, session.kernel.page_size),
            }
            for name, total in item.story.totals.items()
        },
        "steps": [_step(step) for step in item.story.steps] if item.asked else [],
    }


def _step(step: Told) -> dict[str, Any]:
    return {
        "line": step.line,
        "text": step.text,
        "phase": step.phase,
        "depth": step.depth,
        "actions": [_action(action) for action in step.actions],
        "blocks": [_block(block) for block in step.blocks],
        "after": [_action(action) for action in step.after],
        "picture": None if step.picture is None else _picture(step.picture),
        "observations": [dataclasses.asdict(item) for item in step.observations],
        "failed": step.failed,
        "untold": step.untold,
    }


def _block(block: Block) -> dict[str, Any]:
    return {
        "part": block.part,
        "times": block.times,
        "steps": [_step(step) for step in block.steps],
    }


def _action(action: Action) -> dict[str, Any]:
    return {
        "rule": _rule(action.rule),
        "what": action.what,
        "phase": action.phase,
        "entries": action.entries,
        "spans": [dataclasses.asdict(span) for span in action.spans],
        "events": _events(action.events),
        "counters": dict(action.counters),
        "ns": action.ns,
        "assumed": action.assumed,
    }


def _rule(rule: Rule) -> dict[str, str]:
    return {
        "id": rule.id,
        "sentence": rule.sentence,
        "function": rule.function,
        "file": rule.file,
    }


def _picture(picture: Picture) -> dict[str, Any]:
    record = dataclasses.asdict(picture)
    for region, shown in zip(record["regions"], picture.regions, strict=True):
        region["kinds"] = dict(shown.kinds)
    return record


def _events(events: Any) -> dict[str, int]:
    return {Event(event).value: int(count) for event, count in events.items()}
