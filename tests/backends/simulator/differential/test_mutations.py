"""A model with a deliberate fault in it disagrees with this machine: the differential test sees
every one of them. ``mutation_survey.py`` is the long version, by random programs alone."""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Iterator

import pytest
from tests.backends.simulator.differential.asking import Asked, Questions, verdicts
from tests.backends.simulator.differential.directed import directed
from tests.backends.simulator.differential.mutating import Mutation
from tests.backends.simulator.differential.mutations import MUTATIONS
from tests.backends.simulator.differential.pair import open_pair

RANDOM = 100
"""Random programs of a run, from a fresh seed."""
SECONDS = 0.5
"""What the unmodified model may take for those of them that meet one mutation."""
LEAST = 20


@pytest.fixture(scope="module")
def seed() -> int:
    return secrets.randbits(32)


@pytest.fixture(scope="module")
def questions(seed: int) -> Iterator[Questions]:
    """The host is asked once, for all mutations; so is the unmodified model."""
    with open_pair() as pair:
        found = Questions(pair)
        for program, mechanism in directed():
            found.ask(program, mechanism)
        found.ask_random(RANDOM, seed)
        yield found


def chosen(mutation: Mutation, questions: Questions) -> list[Asked]:
    """Random programs that come to the mutated place, the quick ones first, as long as there is
    time; then the directed ones."""
    small = {program for program, _ in directed()}
    fits = [each for each in questions.asked if mutation.name in each.reached]
    some, left = [], SECONDS
    for each in sorted(fits, key=lambda each: each.seconds):
        if each.program not in small and left > 0:
            some.append(each)
            left -= each.seconds
    return some + [each for each in fits if each.program in small]


@pytest.mark.filterwarnings("default::UserWarning")
def test_the_unmodified_model_agrees(questions: Questions, seed: int) -> None:
    """Or what follows would say nothing. Random programs on which it does not are the business of
    the differential test itself, and are left out here."""
    told = f"seed {seed}\n" + "\n\n".join(questions.disagreed)
    if questions.disagreed:
        warnings.warn(told, stacklevel=1)
    assert len(questions.disagreed) < RANDOM // 4, told
    asked = [each.program for each in questions.asked]
    assert all(program in asked for program, _ in directed()), told


def test_there_are_enough_mutations() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= LEAST


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_is_caught(mutation: Mutation, questions: Questions, seed: int) -> None:
    programs = chosen(mutation, questions)
    if not any(verdicts(mutation, questions, programs)):
        pytest.fail(
            f"No program of {len(programs)} shows it, seed {seed}: {mutation.about}", pytrace=False
        )
