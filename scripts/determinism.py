"""How far the instruction clock's figures of one cell lie apart, whatever is measured around it.

    python scripts/determinism.py [TARGET] [--boots 10] [--cells 20] [--most 0.05]
    python scripts/determinism.py -m segv,uffd -w fork-child-write,dense-read

Each cell is measured alone in a boot of its own, then in so many boots that have all cells, in
rotated and reversed orders: every cell is first, last, and after every other. Printed is what
the cells' phases come to and their spread, (most - least) / median; the status is 1
when a cell's total is spread by more than ``--most`` per cent.
"""  # noqa: INP001

from __future__ import annotations

import argparse
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from refbench.backend import Session
from refbench.grammar import Spec
from refbench.plan import Plan, Request, make_plan
from refbench.plugins import registry
from refbench.runner import open_target
from refbench.words import Cell

TARGET = "qemu"
MECHANISMS = ("anon", "memset", "memfd:block=16", "uffd-sigbus:atfork", "refpage", "segv")
CASES = ("sparse-write", "dense-read", "fork-child-write", "churn-small")
DEADLINE = 600.0
TOTAL = "total"


@dataclass(slots=True)
class Figures:
    """What was measured of one cell: for each phase a figure of each run, with its place."""

    phases: dict[str, list[tuple[float, str]]] = field(default_factory=lambda: defaultdict(list))
    failures: list[str] = field(default_factory=list)

    def spread(self, phase: str) -> float:
        """(most - least) / median, in per cent."""
        values = [value for value, _ in self.phases[phase]]
        middle = statistics.median(values)
        return 100 * (max(values) - min(values)) / middle if middle else 0.0


def measure(session: Session, cell: Cell, place: str, figures: Figures) -> None:
    """One run: the median of each phase over the samples behind the warm-up."""
    run = session.run(cell, 2, DEADLINE)
    if run.failure is not None:
        figures.failures.append(f"{place}: {run.failure.message}")
        return
    total = 0.0
    for phase in run.kept[0].phases:
        value = statistics.median(sample.phases[phase].ns for sample in run.kept)
        figures.phases[phase].append((value, place))
        total += value
    figures.phases[TOTAL].append((total, place))


def plan_of(target: str, mechanisms: Sequence[str], cases: Sequence[str], wanted: int) -> Plan:
    """The cells, of mechanisms that work on the target."""
    with open_target(registry(), target)[1] as session:
        known = session.capabilities()
        works = [name for name in mechanisms if known.mechanisms[Spec.parse(name).name].ok]
        request = Request(mechanisms=tuple(works), workloads=tuple(cases))
        plan = make_plan(
            registry(), known.page_size, request, known.mechanisms, clock=session.clock
        )
    return Plan(plan.cells[:wanted], plan.runs, plan.iterations, plan.seed, plan.page_size)


def orders(cells: Sequence[Cell], boots: int) -> Iterator[tuple[str, Sequence[Cell]]]:
    """Rotations, every second one backwards, so that neighbours change as well."""
    for boot in range(boots):
        start = boot * len(cells) // boots
        order = [*cells[start:], *cells[:start]]
        yield f"boot {boot + 1}", order[::-1] if boot % 2 else order


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("target", nargs="?", default=TARGET)
    parser.add_argument("-m", "--mechanisms", default=",".join(MECHANISMS))
    parser.add_argument("-w", "--workloads", default=",".join(CASES))
    parser.add_argument("--boots", type=int, default=10)
    parser.add_argument("--cells", type=int, default=20)
    parser.add_argument("--most", type=float, default=0.05)
    parser.add_argument("--places", action="store_true", help="print every figure with its place")
    asked = parser.parse_args()
    mechanisms, cases = asked.mechanisms.split(","), asked.workloads.split(",")
    cells = plan_of(asked.target, mechanisms, cases, asked.cells).cells
    figures = {cell.key: Figures() for cell in cells}
    series = [("alone", [cell]) for cell in cells] + list(orders(cells, asked.boots))
    for name, order in series:
        sys.stderr.write(f"{name}: {len(order)} cells\n")
        with open_target(registry(), asked.target)[1] as session:
            session.capabilities()
            for index, cell in enumerate(order):
                place = name if name == "alone" else f"{name}, {index + 1} of {len(order)}"
                measure(session, cell, place, figures[cell.key])
    return report(cells, figures, asked.most, places=asked.places)


def report(cells: Sequence[Cell], figures: dict[str, Figures], most: float, *, places: bool) -> int:
    """Print a line a cell; 1 when one is spread too far or failed."""
    bad = 0
    for cell in cells:
        found = figures[cell.key]
        name = f"{cell.label} {cell.mechanism}"
        if found.failures:
            sys.stdout.write(f"{name}: failed: {found.failures[0]}\n")
            bad = 1
            continue
        spreads = {phase: found.spread(phase) for phase in found.phases}
        middle = statistics.median(value for value, _ in found.phases[TOTAL])
        by_phase = ", ".join(f"{p} {s:.4f}" for p, s in spreads.items() if p != TOTAL)
        sys.stdout.write(
            f"{name}: {middle:.0f} instructions in {len(found.phases[TOTAL])} runs,"
            f" spread {spreads[TOTAL]:.4f} % ({by_phase})\n"
        )
        if spreads[TOTAL] > most:
            bad = 1
        for value, place in found.phases[TOTAL] if places else ():
            sys.stdout.write(f"    {value:.0f}  {place}\n")
    return bad


if __name__ == "__main__":
    sys.exit(main())
