"""Every disagreement of the simulator with this machine, by kind, from many random programs.

    .venv/bin/python tests/backends/simulator/differential/survey.py -n 500
    .venv/bin/python .../survey.py -n 500 --seed 7 -m anon,segv --trials 0 --out FOLDER
    .venv/bin/python .../survey.py --file FILE -m SPEC
    .venv/bin/python .../survey.py -n 500 --host-only

Nothing stops at the first one. A kind is a mechanism, the counters that differ and the kinds of
steps that a reduced program needs for it; the smallest program of each kind is printed and kept.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[4]))

from tests.backends.simulator.differential.hunt import visit_all
from tests.backends.simulator.differential.pair import Answer, Pair, open_pair
from tests.backends.simulator.differential.programs import MECHANISMS
from tests.backends.simulator.differential.reduce import reduced, verbs

from refbench.program import Program, parse

Kind = tuple[str, ...]


def kind_of(answer: Answer) -> Kind:
    """The mechanism and what differs, before the program is reduced."""
    wrong = answer.differences or answer.shaky
    found = {_counter(each.place.where, each.place.counter) for each in wrong}
    return (answer.mechanism, *sorted(found))


def _counter(where: str, counter: str) -> str:
    """Observations by their step, everything else by its number."""
    kind = where.partition(" ")[0]
    return f"{kind} {counter}" if kind in {"phase", "memory"} else counter


@dataclass
class Survey:
    """What was seen so far."""

    pair: Pair
    trials: int
    most: int
    """Programs that are reduced for each first kind; the others are only counted."""
    visited: int = 0
    agreed: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    crashed: dict[str, Answer | tuple[str, Program]] = field(default_factory=dict)
    raw: Counter[Kind] = field(default_factory=Counter)
    smallest: dict[Kind, Answer] = field(default_factory=dict)
    counts: Counter[Kind] = field(default_factory=Counter)

    def visit(self, program: Program, mechanism: str) -> None:
        self.visited += 1
        try:
            answer = self.pair.ask(program, mechanism)
        except Exception as error:  # a defect of the model is one of the kinds
            self.note_crash(error, program, mechanism)
            return
        if answer.failed:
            self.failed[f"{mechanism}: {answer.failed.partition(':')[0]}"] += 1
        if not answer.differences and not answer.shaky:
            self.agreed += 1
            return
        first = kind_of(answer)
        self.raw[first] += 1
        if self.raw[first] <= self.most and self.trials:
            answer = self.reduce(answer)
        kind = (*kind_of(answer), "|", *sorted(verbs(answer.program)))
        self.counts[kind] += 1
        kept = self.smallest.get(kind)
        if kept is None or len(answer.program.text()) < len(kept.program.text()):
            self.smallest[kind] = answer

    def note_crash(self, error: Exception, program: Program, mechanism: str) -> None:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        at = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
        key = f"{type(error).__name__} at {at}: {str(error)[:100]}"
        self.raw[("crash", key)] += 1
        known = self.crashed.get(key)
        size = len(program.text())
        if not isinstance(known, tuple) or size < len(known[1].text()):
            self.crashed[key] = (mechanism, program)

    def reduce(self, answer: Answer) -> Answer:
        """The same answer for less."""
        wanted = set(kind_of(answer)[1:])
        best = answer

        def still(program: Program) -> bool:
            nonlocal best
            try:
                again = self.pair.ask(program, answer.mechanism)
            except Exception:
                return False
            same = bool(wanted & set(kind_of(again)[1:]))
            if same:
                best = again
            return same

        reduced(answer.program, still, self.trials)
        return best

    def report(self, out: Path | None) -> str:
        """Kinds, the most frequent first, each with its smallest program."""
        parts = [f"{self.agreed} of {self.visited} programs agree."]
        parts += [f"{count} x failed on the host: {what}" for what, count in self.failed.items()]
        for number, (kind, _) in enumerate(self.counts.most_common(), 1):
            answer = self.smallest[kind]
            cut = kind.index("|")
            parts += ["", f"== {number}: {self.counts[kind]} x {kind[0]}: {', '.join(kind[1:cut])}"]
            parts += [f"   steps: {', '.join(kind[cut + 1 :])}", str(answer)]
            if out is not None:
                file = out / f"{number:03}-{kind[0].replace(':', '-')}.program"
                file.write_text(f"# -m {kind[0]}\n{answer.program.text()}", encoding="utf-8")
        for key, (mechanism, program) in self.crashes():
            parts += ["", f"== {self.raw['crash', key]} x crash: {key}"]
            parts += [f"-m {mechanism}", program.text()]
        parts += ["", "by counters, before reducing:"]
        parts += [f"{count:6} {' '.join(kind)}" for kind, count in self.raw.most_common(40)]
        return "\n".join(parts)

    def crashes(self) -> list[tuple[str, tuple[str, Program]]]:
        return [(key, value) for key, value in self.crashed.items() if isinstance(value, tuple)]


def replay(file: Path, mechanism: str) -> str:
    """One program on both."""
    with open_pair() as pair:
        return str(pair.ask(parse(file.read_text("utf-8"), source=str(file)), mechanism))


def main(arguments: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-n", type=int, default=200, help="programs to try")
    parser.add_argument("--seed", type=int, default=None, help="default: a fresh one, printed")
    parser.add_argument("-m", default=";".join(MECHANISMS), help="mechanisms, by semicolons")
    parser.add_argument("--trials", type=int, default=150, help="runs that reducing may take")
    parser.add_argument("--most", type=int, default=2, help="programs to reduce of each kind")
    parser.add_argument("--out", type=Path, default=None, help="folder for the program files")
    parser.add_argument("--file", type=Path, default=None, help="replay this program instead")
    parser.add_argument("--host-only", action="store_true", help="the host against itself")
    given = parser.parse_args(arguments)
    if given.file is not None:
        sys.stdout.write(replay(given.file, given.m) + "\n")
        return 0
    number = secrets.randbits(32) if given.seed is None else given.seed
    sys.stdout.write(f"seed {number}\n")
    sys.stdout.flush()
    began = time.monotonic()
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
    with open_pair(simulator=not given.host_only) as pair:
        survey = Survey(pair, given.trials, given.most)
        mechanisms = tuple(given.m.split(";"))
        visit_all(given.n, number, survey.visit, mechanisms=mechanisms, shrink=False)
    took = time.monotonic() - began
    sys.stdout.write(f"{survey.report(given.out)}\n{took:.1f} s, seed {number}\n")
    return 0 if survey.agreed == survey.visited else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
