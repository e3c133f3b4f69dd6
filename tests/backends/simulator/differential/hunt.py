"""As many random programs as are asked for, each from a seed of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from hypothesis import HealthCheck, Phase, given, seed, settings
from tests.backends.simulator.differential import bounds
from tests.backends.simulator.differential.pair import Answer
from tests.backends.simulator.differential.programs import MECHANISMS, programs
from tests.backends.simulator.differential.reduce import reduced

from refbench.errors import RefbenchError
from refbench.program import Program

Visit = Callable[[Program, str], str | None]
"""What is wrong with a program, or nothing."""
EACH = 2
"""Of hypothesis's examples for a seed the first is always the simplest program there is."""
TRIALS = 300
"""Programs tried to make one smaller after hypothesis: it leaves steps of one kind in a row."""


class Disagreement(AssertionError):
    """What is wrong with ``program``, the smallest that was found."""

    def __init__(self, program: Program, told: str) -> None:
        super().__init__(told)
        self.program = program


def visit_all(
    count: int,
    number: int,
    visit: Visit,
    *,
    mechanisms: Sequence[str] = MECHANISMS,
    shrink: bool = True,
    evicts: bool | None = None,
) -> int:
    """``visit`` at least ``count`` different programs, the mechanisms in turn; returns how many.

    ``number`` is the seed of them all. A visit with an answer ends the hunt: hypothesis shrinks
    the program, steps that it left are tried singly, and the smallest is a ``Disagreement``.
    ``evicts``: whether pages may go out of memory by MADV_PAGEOUT; without swap they do not, and
    that is this machine's when it is left out.
    """
    evicts = not bounds.has_swap() if evicts is None else evicts
    seen: set[tuple[str, str]] = set()
    turn = 0
    while len(seen) < count:
        mechanism = mechanisms[turn % len(mechanisms)]
        _visit_one(hash_of(number, turn), mechanism, visit, seen, shrink=shrink, evicts=evicts)
        turn += 1
    return len(seen)


def compare_all(
    ask: Callable[[Program, str], Answer],
    count: int,
    number: int,
    *,
    mechanisms: Sequence[str] = MECHANISMS,
    evicts: bool | None = None,
) -> Counter[str]:
    """Ask both sides about programs as :func:`visit_all` does; their answers are the same.

    Returns how many ``programs`` there were, and how many of them are ``shaky``: the side that is
    measured counts them in two ways, each of which is as good as the other.
    """
    met: Counter[str] = Counter()

    def compare(program: Program, mechanism: str) -> str | None:
        answer = ask(program, mechanism)
        met["programs"] += 1
        met["shaky"] += bool(answer.shaky)
        wrong = answer.differences and not answer.shaky
        return f"seed {number}\n{answer}" if wrong else None

    assert visit_all(count, number, compare, mechanisms=mechanisms, evicts=evicts) >= count
    return met


def hash_of(number: int, turn: int) -> int:
    """A seed for each turn, the same on every machine."""
    return (number << 20) + turn


def _visit_one(
    number: int,
    mechanism: str,
    visit: Visit,
    seen: set[tuple[str, str]],
    *,
    shrink: bool,
    evicts: bool,
) -> None:
    phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)

    @seed(number)
    @settings(
        max_examples=EACH,
        database=None,
        deadline=None,
        derandomize=False,
        phases=phases,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(programs(mechanism, bounds.PAGE, evicts=evicts))
    def try_it(program: Program) -> None:
        if (mechanism, program.text()) not in seen:
            if told := visit(program, mechanism):
                raise Disagreement(program, told)
            seen.add((mechanism, program.text()))

    try:
        try_it()
    except Disagreement as found:
        if not shrink:
            raise

        def still(program: Program) -> bool:
            try:
                return bool(visit(program, mechanism))
            except RefbenchError:
                return False

        small = reduced(found.program, still, TRIALS)
        raise Disagreement(small, visit(small, mechanism) or str(found)) from None
