"""A model with a deliberate fault in it disagrees with this machine: the differential test sees
every one of them. ``mutation_survey.py`` is the long version, by random programs alone."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.backends.simulator.differential.asking import Questions, verdicts
from tests.backends.simulator.differential.directed import directed
from tests.backends.simulator.differential.mutating import Mutation
from tests.backends.simulator.differential.mutations import MUTATIONS
from tests.backends.simulator.differential.pair import open_pair

RANDOM = 100
"""Random programs of a run, from a fresh seed, or ..."""
ASKING = 15.0
"""... as many as begin within so many seconds."""
SECONDS = 0.3
"""How long one mutation meets random programs, the quick ones first, before the directed ones."""
LEAST = 20


@pytest.fixture(scope="module")
def seed() -> int:
    return secrets.randbits(32)


@dataclass(slots=True)
class Asking:
    """What the host was asked once, for all mutations; so was the unmodified model."""

    random: Questions
    directed: Questions


@pytest.fixture(scope="module")
def asking(seed: int) -> Iterator[Asking]:
    with open_pair() as pair:
        found = Asking(Questions(pair), Questions(pair))
        for program, mechanism in directed():
            found.directed.ask(program, mechanism)
        found.random.ask_random(RANDOM, seed, ASKING)
        found.random.asked.sort(key=lambda each: each.seconds)
        yield found


def test_there_are_enough_mutations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them can be put into the model as it is written now."""
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= LEAST
    for mutation in MUTATIONS:
        mutation.apply(monkeypatch)


def test_the_unmodified_model_agrees(asking: Asking, seed: int) -> None:
    """Or what follows would say nothing."""
    wrong = asking.directed.disagreed + asking.random.disagreed
    assert not wrong, f"seed {seed}\n" + "\n\n".join(wrong)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_is_caught(mutation: Mutation, asking: Asking, seed: int) -> None:
    began = time.monotonic()
    for found in verdicts(mutation, asking.random):
        if found:
            return
        if time.monotonic() - began > SECONDS:
            break
    if not any(verdicts(mutation, asking.directed)):
        pytest.fail(f"No program shows it, seed {seed}: {mutation.about}", pytrace=False)
