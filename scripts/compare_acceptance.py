"""How often is ``refbench compare`` wrong? Computed offline from recorded runs.

    python scripts/compare_acceptance.py [--cells 1000] [--runs N] [--json] [DATA]

Two rates, each over resampled cells: *false*, of cells in which nothing changed and that are
flagged all the same, whatever the metric; *found*, of cells in which all times of one side, on
the clock and on the CPU, were made 10 % longer, and whose ``time`` or ``cpu`` is flagged as more.

A and B of a resampled cell are drawn from the recorded runs of one cell *without replacement*:
no run is on both sides or twice on one, as no run is in two real journals. Drawing with
replacement would put equal values on both sides and pull their medians together; the rate of
false alarms would look better than it is. ``blocks`` is the harder question: A is a stretch of
consecutive rounds and B the stretch right behind it, so that drift and bursts of a busy machine
fall on one side, as they do when A and B are measured one after the other.
"""  # noqa: INP001

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from refbench.compare import Rule, Verdict, compare
from refbench.journal import decode
from refbench.plan import DEFAULT_RUNS
from refbench.samples import Measurement, Run

DEFAULT = Path(__file__).parent.parent / "tests" / "data" / "compare.jsonl.gz"
PLANTED = 1.10


def load(path: Path) -> tuple[Measurement, ...]:
    """The recorded measurements."""
    return decode(gzip.decompress(path.read_bytes()), str(path)).measurements()


def slowed(run: Run, factor: float) -> Run:
    """The run with every phase ``factor`` times as long, on the clock and on the CPU."""
    return replace(
        run,
        samples=tuple(
            replace(
                sample,
                phases={
                    name: replace(
                        counters,
                        ns=round(counters.ns * factor),
                        user_ns=round(counters.user_ns * factor),
                        system_ns=round(counters.system_ns * factor),
                    )
                    for name, counters in sample.phases.items()
                },
            )
            for sample in run.samples
        ),
    )


def shuffled(
    measurements: Sequence[Measurement], runs: int, count: int, seed: int
) -> Iterator[tuple[Measurement, list[int], list[int]]]:
    """``count`` cells with the indices of A's and B's runs, drawn without replacement."""
    random = np.random.default_rng(seed)
    for at in range(count):
        measurement = measurements[at % len(measurements)]
        order = random.permutation(len(measurement.runs))[: 2 * runs].tolist()
        yield measurement, order[:runs], order[runs:]


def blocks(
    measurements: Sequence[Measurement], runs: int
) -> Iterator[tuple[Measurement, list[int], list[int]]]:
    """Every pair of neighbouring stretches of rounds."""
    for measurement in measurements:
        for at in range(len(measurement.runs) - 2 * runs + 1):
            yield measurement, list(range(at, at + runs)), list(range(at + runs, at + 2 * runs))


def rate(
    pairs: Iterator[tuple[Measurement, list[int], list[int]]], planted: bool, rule: Rule
) -> tuple[float, dict[str, int], int]:
    """The share that is flagged, which metrics were, and how many pairs there were."""
    slow: dict[int, Run] = {}
    flagged, total, metrics = 0, 0, dict[str, int]()
    for measurement, first, second in pairs:
        total += 1
        runs = [measurement.runs[at] for at in second]
        if planted:
            for run in runs:
                if id(run) not in slow:
                    slow[id(run)] = slowed(run, PLANTED)
            runs = [slow[id(run)] for run in runs]
        (cell,) = compare(
            [replace(measurement, runs=tuple(measurement.runs[at] for at in first))],
            [replace(measurement, runs=tuple(runs))],
            replace(rule, seed=total),
        ).cells
        changed = [effect for effect in cell.effects if effect.flagged]
        for effect in changed:
            metrics[effect.metric] = metrics.get(effect.metric, 0) + 1
        if planted:
            flagged += any(
                e.metric in {"time", "cpu"} and e.verdict is Verdict.MORE for e in changed
            )
        else:
            flagged += cell.flagged
    return flagged / total, metrics, total


def main() -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--planted", type=int, default=0, help="cells with the slowdown")
    parser.add_argument("--runs", type=int, action="append", help="runs on each side")
    parser.add_argument("--seed", type=int, default=20200731)
    parser.add_argument("--threshold", type=float, default=Rule().threshold)
    parser.add_argument("--confidence", type=float, default=Rule().confidence)
    parser.add_argument("--blocks", action="store_true", help="also neighbouring stretches")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    measurements = [one for one in load(options.data) if one.good]
    rule = Rule(confidence=options.confidence, threshold=options.threshold)
    found = []
    for runs in options.runs or [DEFAULT_RUNS]:
        pairs = [shuffled(measurements, runs, n, options.seed)
                 for n in (options.cells, options.planted or options.cells)]  # fmt: skip
        false, which, total = rate(pairs[0], False, rule)
        power, _, planted = rate(pairs[1], True, rule)
        result = {"runs": runs, "cells": total, "false": false, "planted": planted,
                  "found": power, "metrics": which}  # fmt: skip
        if options.blocks:
            result["false_blocks"], result["metrics_blocks"], _ = rate(
                blocks(measurements, runs), False, rule
            )
        found.append(result)
        if not options.json:
            sys.stdout.write(f"{result}\n")
            sys.stdout.flush()
    if options.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
