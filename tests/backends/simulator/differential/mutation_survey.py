"""How many random programs it takes to catch each mutation of the model.

    .venv/bin/python tests/backends/simulator/differential/mutation_survey.py -n 1000
    .venv/bin/python .../mutation_survey.py -n 300 --seed 7 -m fork-leaves-writable,merge-never

Each mutation meets the programs in turn until ``--enough`` of them have caught it. Fails when one
is caught by none, or when the unmodified model disagrees with this machine.
"""

from __future__ import annotations

import argparse
import secrets
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[4]))

from tests.backends.simulator.differential.asking import Questions, verdicts
from tests.backends.simulator.differential.mutating import Mutation
from tests.backends.simulator.differential.mutations import MUTATIONS
from tests.backends.simulator.differential.pair import open_pair


def needed(mutation: Mutation, questions: Questions, enough: int) -> list[int]:
    """How many programs were tried from one that caught it to the next."""
    gaps, tried = [], 0
    for found in verdicts(mutation, questions):
        tried += 1
        if found:
            gaps.append(tried)
            tried = 0
        if len(gaps) == enough:
            break
    return gaps


def line(mutation: Mutation, gaps: Sequence[int]) -> str:
    """One of the report."""
    if not gaps:
        return f"{mutation.name:40} NOT CAUGHT"
    median = statistics.median(gaps)
    return f"{mutation.name:40} {median:6g} {max(gaps):6} {len(gaps):6}"


def main(arguments: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-n", type=int, default=1000, help="programs to ask the host")
    parser.add_argument("--seed", type=int, default=None, help="default: a fresh one, printed")
    parser.add_argument("-m", default="", help="mutations, by commas; default: all")
    parser.add_argument("--enough", type=int, default=15, help="catches after which to stop")
    given = parser.parse_args(arguments)
    number = secrets.randbits(32) if given.seed is None else given.seed
    wanted = set(given.m.split(",")) if given.m else {each.name for each in MUTATIONS}
    began = time.monotonic()
    say(f"seed {number}")
    caught = []
    with open_pair() as pair:
        questions = Questions(pair)
        questions.ask_random(given.n, number)
        agreed, wrong = len(questions.asked), len(questions.disagreed)
        say(f"{agreed} programs agree, {wrong} do not, {questions.shaky} have no one answer")
        for told in questions.disagreed:
            say(told)
        say(f"{'mutation':40} {'median':>6} {'most':>6} {'caught':>6}")
        for mutation in [each for each in MUTATIONS if each.name in wanted]:
            gaps = needed(mutation, questions, given.enough)
            caught += [gaps]
            say(line(mutation, gaps))
    medians = [statistics.median(gaps) for gaps in caught if gaps]
    say(f"{len(medians)} of {len(caught)} caught, median {statistics.median(medians):g} programs")
    say(f"{time.monotonic() - began:.0f} s")
    return 0 if all(caught) and not wrong else 1


def say(text: str) -> None:
    """At once, for those who watch."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
