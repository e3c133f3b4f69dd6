"""The model has no processor: programs that execute real ones are refused, with the reason."""

from __future__ import annotations

from pathlib import Path

from refbench.grammar import Spec, resolve
from refbench.program import Execute, Phase, Program, Repeat
from refbench.words import Cell, Pattern
from refbench_simulator.backend import SimulatorBackend


def test_a_program_that_executes_is_unsupported() -> None:
    backend = SimulatorBackend()
    steps = (Phase("a"), Repeat(2, (Execute("it"),)))
    program = Program("real", steps, files={"it": Path(__file__)})
    cell = Cell("real", Spec.parse("anon"), Pattern(), program)
    with backend.open(resolve(Spec.parse("simulator"), backend.options, what="target")) as session:
        run = session.run(cell, 1, 10)
    assert run.failure is not None
    assert run.failure.kind == "unsupported"
    assert "cannot execute a program" in run.failure.message
    assert "-b host" in run.failure.remedy
