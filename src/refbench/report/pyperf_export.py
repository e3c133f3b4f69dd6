"""Export to pyperf's JSON: one pyperf run for each of ours, values in seconds, bytes or, of the
instruction clock, instructions: pyperf then has a whole number and no time.

pyperf's own ``compare_to`` pools all values and uses a t-test; ``refbench compare`` does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyperf

from refbench import metrics
from refbench.errors import StorageError, UsageError
from refbench.metrics import Metric
from refbench.report import units
from refbench.samples import Measurement, Run

METRICS = ("time", "lost")
"""What is exported, each as a benchmark of its own."""
_UNITS = {"seconds": "second", "bytes": "byte", "count": "integer", "instructions": "integer"}


def write(path: Path, measurements: Sequence[Measurement]) -> None:
    """Write a ``pyperf.BenchmarkSuite``.

    :raises UsageError: when there is nothing to export.
    :raises StorageError: when the file cannot be written.
    """
    try:
        suite(measurements).dump(str(path), replace=True)
    except OSError as error:
        raise StorageError(
            f"The pyperf file {path} cannot be written: {error.strerror}.",
            remedy="Give a path in a directory that you can write to.",
        ) from None


def suite(measurements: Sequence[Measurement]) -> pyperf.BenchmarkSuite:
    """The benchmarks of all measurements that have a result.

    Times of a clock that is not real carry its name in theirs, and what was measured again in
    another environment carries a number: pyperf wants every name once. It takes positive values
    only: a metric that is zero or less in some sample is left out.

    :raises UsageError: when there is nothing to export.
    """
    with_target = len({measurement.environment.target for measurement in measurements}) > 1
    met: Counter[str] = Counter()
    benchmarks = []
    for measurement in measurements:
        for metric in map(metrics.find, METRICS):
            name = _name(measurement, metric, with_target)
            number = met[name] + 1
            numbered = name if number == 1 else f"{name} (environment {number})"
            if benchmark := _benchmark(measurement, metric, numbered):
                met[name] = number
                benchmarks.append(benchmark)
    if not benchmarks:
        raise UsageError(
            "There is no result to export for pyperf: every cell failed, or took no time.",
            remedy="The table says why; measure a mechanism that works here, with a phase to time.",
        )
    return pyperf.BenchmarkSuite(benchmarks)


def _name(measurement: Measurement, metric: Metric, with_target: bool) -> str:
    cell, environment = measurement.cell, measurement.environment
    words = [cell.label, cell.mechanism, cell.pattern, "thp" if cell.thp else "", metric.name]
    if units.unit(metric, environment.clock) == units.INSTRUCTIONS:
        words[-1] = units.INSTRUCTIONS
    elif metric.kind == "time" and environment.clock != "real":
        words[-1] = f"{environment.clock} time"
    if with_target:
        words.insert(0, environment.target)
    return " ".join(filter(None, words))


def _benchmark(measurement: Measurement, metric: Metric, name: str) -> pyperf.Benchmark | None:
    cell, environment = measurement.cell, measurement.environment
    metadata = {
        "name": name,
        "unit": _UNITS[units.unit(metric, environment.clock)],
        "refbench_workload": cell.workload,
        "refbench_mechanism": cell.mechanism,
        "refbench_target": environment.target,
        "refbench_clock": environment.clock,
        "kernel": environment.kernel,
        "arch": environment.arch,
    }
    metadata |= {f"refbench_{name}": text for name, text in environment.facts.items() if text}
    runs = [_run(run, metric, environment.clock, metadata) for run in measurement.good]
    return pyperf.Benchmark(runs) if runs and None not in runs else None


def _run(run: Run, metric: Metric, clock: str, metadata: Mapping[str, str]) -> pyperf.Run | None:
    values = [metric.value(sample) for sample in run.kept]
    positive = [value for value in values if value is not None and value > 0]
    if not values or len(positive) != len(values):
        return None
    warmups = []
    if len(run.samples) > 1:
        first = metric.value(run.samples[0])
        warmups = [(1, first)] if first is not None and first > 0 else []
    date = {"date": run.started} if run.started else {}
    whole = units.unit(metric, clock) != "seconds"

    def convert(value: float) -> float:
        shown = units.amount(metric, value, clock)
        return round(shown) if whole else shown

    return pyperf.Run(
        [convert(value) for value in positive],
        warmups=[(loops, convert(value)) for loops, value in warmups],
        metadata={**metadata, **date, "duration": run.wall_ns / 1e9},
        collect_metadata=False,
    )
