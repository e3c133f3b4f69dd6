"""Programs that make no sense, and walls that a handler meets: an answer, never a crash."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from refbench.plugins import registry
from refbench.protocol import Report

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Ask = Callable[..., Report]

HARMLESS_NUMBERS = ("0", "1", "4096", "8191", "9223372036854775807", "0x", "-1", "0x1000", "")
MECHANISMS = ("anon", "memfd:block=16", "uffd", "uffd-sigbus", "segv")


@pytest.mark.parametrize(
    "step", ["touch 1 0 4096 write 4096", "unmap 1 0 4096", "expect 1 0 4096 zero"]
)
def test_a_region_that_is_not_placed_yet_is_never_address_zero(ask_agent: Ask, step: str) -> None:
    report = ask_agent(f"map 0 4096\n{step}\nmap-anonymous 1 4096 0\n")
    assert report.failure is not None
    assert report.failure.kind == "usage"
    assert "never been mapped" in report.failure.message


def test_an_anonymous_region_fits_behind_its_slot(ask_agent: Ask) -> None:
    assert ask_agent("map 0 4096\nmap-anonymous 1 1073741824 0\n").failure is None
    failure = ask_agent("map 0 4096\nmap-anonymous 1 1073745920 0\n").failure
    assert failure is not None
    assert "larger than 1 GiB" in failure.message


def test_a_handler_out_of_mappings_has_met_a_limit_and_no_wrong_content(
    ask_agent: Ask, page: int
) -> None:
    most = int(Path("/proc/sys/vm/max_map_count").read_text())
    if most > 1 << 18:
        pytest.skip(f"vm.max_map_count is {most}: too many traps for a test")
    size = (most + 64) * 2 * page
    report = ask_agent(f"map 0 {size}\ntouch 0 0 {size} read {2 * page}\n", mechanism="segv")
    assert report.failure is not None
    assert report.failure.kind == "limit-hit"
    assert f"vm.max_map_count is {most}" in report.failure.message


@pytest.mark.parametrize("mechanism", ["memfd", "memfd:reserve"])
def test_memfd_never_replaces_what_is_in_its_way(ask_agent: Ask, page: int, mechanism: str) -> None:
    lines = (
        f"map 0 {4 * page}",
        f"map-anonymous 1 {page} 0",
        "unmap 0 0 0",
        f"map 0 {8 * page}",
    )
    failure = ask_agent("\n".join(lines) + "\n", mechanism=mechanism).failure
    assert failure is not None
    assert failure.kind == "usage"
    assert "in use" in failure.message


def _mutated(lines: list[str], words: list[str], chance: random.Random) -> str:
    lines = list(lines)
    for _ in range(chance.choice((1, 2, 4))):
        at = chance.randrange(len(lines))
        parts = lines[at].split() or [""]
        match chance.randrange(4):
            case 0:
                parts[chance.randrange(len(parts))] = chance.choice(words)
            case 1:
                parts.append(chance.choice(words))
            case 2:
                parts.pop()
            case _:
                other = chance.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
                continue
        lines[at] = " ".join(parts)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_mutated_programs_end_with_an_answer(run_agent: Run, page: int, mechanism: str) -> None:
    chance = random.Random(mechanism)
    known = registry()
    workload = known.workloads["fork-after-alloc"]
    spec = known.cases["fork-child-write"].workload.with_options({"size": "64KiB"})
    lines = workload.program(spec, page).text().splitlines()[1:]
    words = [word for line in lines for word in line.split()] + list(HARMLESS_NUMBERS)
    for _ in range(40):
        program = _mutated(lines, words, chance)
        done = run_agent(program, mechanism=mechanism, iterations=0)
        assert done.returncode in {0, 2, 3}, program
        assert done.stdout.splitlines()[-1].startswith(f"end rc={done.returncode} "), program
