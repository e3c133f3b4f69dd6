r"""``python -m refbench.pyperf_runner``: cells under pyperf's own calibration and processes.

    python -m refbench.pyperf_runner --target host --mechanism anon,memset \\
        --workload sparse-write -o cells.json

A loop of pyperf's is one sample of the cell, and its time is what the session's clock says
(:meth:`pyperf.Runner.bench_time_func`), not the time of the Python code around it. Everything
else is pyperf's: worker processes, warm-ups, ``--fast``, ``--rigorous``, ``--processes``.
"""

from __future__ import annotations

import argparse
import os
import sys

import pyperf

from refbench import metrics
from refbench.backend import Session
from refbench.errors import BackendError, RefbenchError, UsageError
from refbench.plan import Request, make_plan
from refbench.plugins import registry
from refbench.runner import environment_of, open_target
from refbench.samples import Environment
from refbench.words import Cell, Clock

PROGRAM = ("-m", "refbench.pyperf_runner")
DEADLINE = 120.0
"""Seconds for one run of a cell, whatever number of loops pyperf asks for."""


class Cells:
    """The cells of one target and the session that measures them, opened on first use."""

    def __init__(self, target: str, metric: str, request: Request) -> None:
        self.target = target
        self.metric = metrics.find(metric)
        self.request = request
        self._session: Session | None = None
        if self.metric.unit != "seconds":
            raise UsageError(
                f"pyperf compares times, and {metric!r} is not one.",
                remedy="Give time or time.PHASE; the reports of `refbench` have the others.",
            )

    def plan(self, page_size: int) -> tuple[Cell, ...]:
        """The cells that the request names."""
        return make_plan(registry(), page_size, self.request).cells

    def open(self) -> Environment:
        """Open the target; the environment that its numbers depend on."""
        spec, self._session = open_target(registry(), self.target)
        if self._session.clock is Clock.INSTRUCTIONS:
            self.close()
            raise UsageError(
                f"pyperf times in seconds, and the clock of {self.target} counts instructions.",
                remedy="Use `refbench run`: the pyperf file that it writes has them as integers.",
            )
        return environment_of(spec, self._session, self._session.capabilities())

    def measure(self, loops: int, cell: Cell) -> float:
        """Seconds on the session's clock of ``loops`` samples of ``cell``.

        :raises RefbenchError: when the cell fails: pyperf has no word for that.
        """
        if self._session is None:
            self.open()
        assert self._session is not None
        run = self._session.run(cell, loops, DEADLINE)
        if run.failure is not None:
            raise BackendError(
                f"{cell.mechanism} in {cell.label} on {self.target}: {run.failure.message}",
                remedy=run.failure.remedy,
            )
        times = [self.metric.value(sample) for sample in run.samples[1:]]
        total = sum(time for time in times if time is not None)
        if total <= 0:
            raise UsageError(
                f"{cell.label} takes no time in {self.metric.name!r}.",
                remedy="Name a phase that the workload has, or no phase at all.",
            )
        return total

    def close(self) -> None:
        """Close what was opened."""
        if self._session is not None:
            self._session.close()
            self._session = None


def main() -> None:
    """Measure every cell that the command line names."""
    runner = pyperf.Runner(program_args=PROGRAM, add_cmdline_args=_pass_on)
    _declare(runner.argparser)
    args = runner.parse_args()
    # Workers get no environment but what is named, and our settings are in the environment.
    ours = [name for name in os.environ if name.startswith(("REFBENCH_", "XDG_", "PYTHONPATH"))]
    args.inherit_environ = [*(args.inherit_environ or ()), *ours]
    request = Request(
        mechanisms=tuple(args.mechanism or ("anon", "memset")),
        workloads=tuple(args.workload or ("sparse-write",)),
    )
    cells = Cells(args.target, args.metric, request)
    try:
        _bench(runner, cells, worker=args.worker)
    finally:
        cells.close()


def _bench(runner: pyperf.Runner, cells: Cells, *, worker: bool) -> None:
    page_size = os.sysconf("SC_PAGE_SIZE")
    metadata: dict[str, str | int] = {}
    if worker:  # the parent only counts benchmarks and starts workers
        environment = cells.open()
        page_size = environment.page_size
        metadata = {f"refbench_{name}": text for name, text in environment.facts.items() if text}
        metadata |= {
            "refbench_target": environment.target,
            "refbench_clock": environment.clock,
            "refbench_kernel": environment.kernel,
        }
    for cell in cells.plan(page_size):
        name = f"{cells.target} {cell.label} {cell.mechanism}"
        runner.bench_time_func(name, cells.measure, cell, metadata=metadata)


def _declare(parser: argparse.ArgumentParser) -> None:
    """Our arguments, put beside pyperf's."""
    group = parser.add_argument_group("refbench")
    group.add_argument("--target", default="host", help="where to measure (default: host)")
    group.add_argument("--mechanism", action="append", help="mechanisms, commas between them")
    group.add_argument("--workload", action="append", help="cases or workloads, or globs of them")
    group.add_argument("--metric", default="time", help="time (default), or time.PHASE")


def _pass_on(command: list[str], args: argparse.Namespace) -> None:
    """Give a worker process the arguments that its parent has."""
    command += ["--target", args.target, "--metric", args.metric]
    for option in ("mechanism", "workload"):
        for value in getattr(args, option) or ():
            command += [f"--{option}", value]


if __name__ == "__main__":
    try:
        main()
    except RefbenchError as error:
        sys.exit(f"Error: {error}")
