"""Reading the machine that is running: compared with what the kernel does to the agent here."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from refbench import program as p
from refbench.backend import Session
from refbench.errors import BackendError
from refbench.grammar import Spec
from refbench.plugins import registry
from refbench.runner import open_target
from refbench.samples import Run
from refbench.words import Cell, Pattern
from refbench_simulator import machine
from refbench_simulator.knobs import Kernel
from refbench_simulator.settings import facts, kernel_of

Refbench = Callable[..., "subprocess.CompletedProcess[str]"]
MIB = 1 << 20

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads a running Linux")


@pytest.fixture(scope="module")
def here() -> Kernel:
    return kernel_of(machine.this_machine().knobs)


@pytest.fixture(scope="module")
def host() -> Iterator[Session]:
    _, session = open_target(registry(), "host")
    with session:
        yield session


def run(session: Session, mechanism: str, *steps: p.Step) -> Run:
    program = p.Program("test", steps)
    return session.run(Cell("test", Spec.parse(mechanism), Pattern(), program), 0, 60)


def test_nothing_is_assumed_here() -> None:
    assert machine.this_machine().assumed == ()


def test_kernel_architecture_and_page_size_are_the_agents(here: Kernel, host: Session) -> None:
    found = host.capabilities()
    assert found.kernel.startswith(here.version + ".")
    assert (found.arch, found.page_size) == (here.arch, here.page_size)


def test_facts_are_the_hosts_where_it_can_read_them(here: Kernel, host: Session) -> None:
    told = host.capabilities().environment
    ours = facts(here)
    common = {name for name in ours if told.get(name, "not readable") != "not readable"}
    common -= {"memory"}
    assert {"thp", "vm.max_map_count", "swap", "user"} <= common
    assert {name: ours[name] for name in common} == {name: told[name] for name in common}


def test_fault_around_is_what_the_agent_sees(here: Kernel, host: Session) -> None:
    size = 4 * MIB
    touch = p.Touch(0, 0, size, "read", here.page_size)
    sample = run(host, "memfd-full", p.Map(0, size), p.Phase("touch"), touch).samples[0]
    assert sample.phases["touch"].minor_faults == size // (here.around * here.page_size)


def test_tables_are_given_back_as_the_agent_sees(here: Kernel, host: Session) -> None:
    span = here.entries * here.page_size
    size = 4 * span
    sample = run(
        host,
        "anon",
        p.Map(0, size),
        p.Touch(0, 0, size, "write", span),
        p.Measure("touched"),
        p.Advise(0, 0, size, "dontneed"),
        p.Measure("dropped"),
    ).samples[0]
    given_back = sample.memory["touched"].pte - sample.memory["dropped"].pte
    assert given_back == (4 * here.page_size if here.reclaims_tables else 0)


def test_tables_are_given_back_as_the_kernel_is_configured(here: Kernel) -> None:
    try:
        config = gzip.decompress(Path("/proc/config.gz").read_bytes()).decode()
    except OSError:
        pytest.skip("this kernel does not show its configuration")
    assert here.reclaims_tables == ("\nCONFIG_PT_RECLAIM=y\n" in config)


def test_own_vmas_are_the_agents(here: Kernel, host: Session) -> None:
    sample = run(host, "anon", p.Map(0, MIB)).samples[0]
    assert sample.memory["start"].vmas == here.own_vmas


def test_own_vmas_put_the_wall_where_it_is(here: Kernel, host: Session) -> None:
    if here.max_map_count > 1 << 17:
        pytest.skip("vm.max_map_count is so high that reaching it takes long")
    fit = here.max_map_count - here.own_vmas
    at = p.Measure("there")
    last = run(host, "memfd:block=1", p.Map(0, fit * here.page_size), at)
    assert last.failure is None
    assert last.samples[0].memory["there"].vmas == here.max_map_count
    over = run(host, "memfd:block=1", p.Map(0, (fit + 1) * here.page_size), at)
    assert over.failure is not None
    assert over.failure.kind == "limit-hit"


def test_an_ordinary_user_reads_the_same_but_for_his_rights(
    here: Kernel, refbench: Refbench, user_prefix: Sequence[str], user_folder: Path
) -> None:
    answer = refbench(
        "machine",
        "--json",
        prefix=user_prefix,
        cwd=user_folder,
        env={"HOME": str(user_folder), "REFBENCH_CACHE": str(user_folder / "cache")},
    )
    assert answer.returncode == 0, answer.stderr
    told = json.loads(answer.stdout)
    assert told["knobs"]["around"] == here.around * here.page_size
    assert told["knobs"]["pt-reclaim"] == here.reclaims_tables
    assert told["knobs"]["max-map-count"] == here.max_map_count
    assert told["knobs"]["own-vmas"] == here.own_vmas
    assert told["knobs"]["privileged"] is False


def test_memory_is_never_read_off_a_machine(here: Kernel) -> None:
    assert here.memory == Kernel().memory


def test_what_somebody_else_sets_is_not_read() -> None:
    assert "thp" not in machine.this_machine({"thp"}).knobs


def test_elsewhere_than_on_linux_there_is_a_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(BackendError, match="darwin") as caught:
        machine.this_machine()
    assert "refbench machine --save" in caught.value.remedy


_WATCHED = """
import sys
from refbench.grammar import Spec
from refbench_simulator.target import OPTIONS, kernel, options_of

looked = []
def hook(event, arguments):
    if event == "open" and str(arguments[0]).startswith(("/proc", "/sys", "/dev")):
        looked.append(str(arguments[0]))
sys.addaudithook(hook)
kernel(options_of(Spec.parse(sys.argv[1], what="target")))
print(*looked)
"""


@pytest.mark.parametrize(
    ("target", "looks"),
    [
        ("simulator", False),
        ("simulator:page=64KiB,thp=always,swap=1GiB,kernel=6.1", False),
        ("simulator:like=host", True),
    ],
)
def test_only_like_host_looks_at_the_machine(target: str, looks: bool) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", _WATCHED, target], capture_output=True, text=True, timeout=60
    )
    assert answer.returncode == 0, answer.stderr
    assert bool(answer.stdout.strip()) is looks
