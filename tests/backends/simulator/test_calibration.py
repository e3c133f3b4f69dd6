"""Fitting costs: what is known comes out again, and what cannot be known is said to be assumed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from refbench_simulator.calibration import (
    Observed,
    Part,
    fit,
    modelled,
    phase_errors,
    summary,
    whole_errors,
)
from refbench_simulator.model.events import Event

TRUE = {event: 40.0 * (3 + at) for at, event in enumerate(Event)}
USED = tuple(event for event in Event if event not in {Event.SWAP, Event.MERGE})
ONES = dict.fromkeys(Event, 1.0)


def cells(count: int, *, noise: float = 0.0, seed: int = 0) -> list[Observed]:
    """Cells of three phases whose times follow from :data:`TRUE`, up to ``noise``."""
    random = np.random.default_rng(seed)
    made = []
    for at in range(count):
        phases = {}
        for name in ("map", "touch", "unmap"):
            chosen = random.choice(len(USED), 5, replace=False)
            counts = {USED[i]: int(random.integers(1, 5000)) for i in chosen}
            phases[name] = Part(counts, modelled(counts, TRUE) * random.lognormal(0, noise))
        total = sum(part.ns for part in phases.values())
        made.append(Observed(f"w{at}", "m", total, phases))
    return made


def worst(found: Mapping[Event, float]) -> float:
    return max(abs(found[event] / TRUE[event] - 1) for event in USED)


def test_costs_are_found_again_whatever_the_prior_says() -> None:
    assert worst(fit(cells(150), ONES).ns) < 0.01
    assert worst(fit(cells(150), {event: 1e6 / cost for event, cost in TRUE.items()}).ns) < 0.05


def test_noise_averages_out() -> None:
    found = fit(cells(400, noise=0.1), ONES).ns
    assert np.median([abs(found[event] / TRUE[event] - 1) for event in USED]) < 0.05


def test_cells_that_are_far_off_move_nobody_else() -> None:
    good = cells(200, noise=0.03)
    slow = [
        Observed(
            c.workload,
            c.mechanism,
            8 * c.ns,
            {n: Part(p.counts, 8 * p.ns) for n, p in c.phases.items()},
        )
        for c in cells(15, seed=7)
    ]
    alone, together = fit(good, ONES).ns, fit(good + slow, ONES).ns
    assert np.median([abs(together[event] / alone[event] - 1) for event in USED]) < 0.01


def test_no_cost_is_negative() -> None:
    # Clearing seems to make things faster: nothing does.
    one = Observed("a", "m", 5e6, {"touch": Part({Event.TRAP: 1000}, 5e6)})
    two = Observed("b", "m", 4e6, {"touch": Part({Event.TRAP: 1000, Event.CLEAR: 1000}, 4e6)})
    found = fit([one, two], ONES).ns
    assert all(cost >= 0 for cost in found.values())
    assert found[Event.CLEAR] < 0.1 * found[Event.TRAP]


def test_events_that_always_come_together_are_shared_out_as_the_prior_has_it() -> None:
    pair = {Event.TRAP: 1000, Event.PTE: 1000}
    cell = Observed("w", "m", 8e6, {"touch": Part(pair, 8e6)})
    prior = {**ONES, Event.TRAP: 3.0}
    found = fit([cell], prior).ns
    assert found[Event.TRAP] + found[Event.PTE] == pytest.approx(8000, rel=0.01)
    assert found[Event.TRAP] / found[Event.PTE] == pytest.approx(3, rel=0.01)


def test_what_no_cell_exercises_is_assumed_and_scaled_like_the_rest() -> None:
    prior = {event: cost / 7 for event, cost in TRUE.items()}
    found = fit(cells(100), prior)
    assert found.assumed == {Event.SWAP, Event.MERGE}
    assert found.ns[Event.SWAP] == pytest.approx(TRUE[Event.SWAP], rel=0.05)


def test_the_set_up_is_fitted_but_is_no_part_of_the_whole() -> None:
    phases = {
        "setup": Part({Event.FILE: 10}, 70_000.0),
        "touch": Part({Event.TRAP: 1000}, 900_000.0),
    }
    cell = Observed("w", "m", 900_000.0, phases)
    assert cell.counts == {Event.TRAP: 1000}
    found = fit([cell], ONES).ns
    assert found[Event.FILE] == pytest.approx(7000, rel=0.1)
    assert found[Event.TRAP] == pytest.approx(900, rel=0.02)


def test_errors_are_relative_and_by_phase() -> None:
    phases = {
        "map": Part({Event.MMAP: 10}, 50_000.0),
        "touch": Part({Event.TRAP: 100}, 100_000.0),
        "exit": Part({Event.EXIT: 1}, 300.0),
    }
    cell = Observed("w", "m", 150_000.0, phases)
    ns = {**ONES, Event.MMAP: 5000.0, Event.TRAP: 1300.0}
    assert whole_errors([cell], ns) == pytest.approx([0.2], abs=1e-4)
    found = phase_errors([cell], ns)
    assert found["map"] == pytest.approx([0.0])
    assert found["touch"] == pytest.approx([0.3])
    assert "exit" not in found, "shorter than what can be judged"


def test_the_summary_takes_an_error_in_either_direction() -> None:
    found = summary(np.array([-0.2, 0.1, 0.1, -0.4, 0.0]))
    assert found.cells == 5
    assert found.median == pytest.approx(0.1)
    assert found.most == pytest.approx(0.32)


def test_nothing_cannot_be_fitted() -> None:
    with pytest.raises(ValueError, match="no cells"):
        fit([], ONES)
