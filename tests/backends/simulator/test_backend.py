"""The target ``simulator`` and the command ``refbench machine``."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from refbench.errors import UsageError
from refbench.grammar import Spec
from refbench.plugins import registry
from refbench_simulator.backend import SimulatorBackend
from refbench_simulator.knobs import Kernel
from refbench_simulator.options import simulated
from refbench_simulator.settings import KNOBS, knobs_of
from refbench_simulator.target import kernel, machine_of, options_of

Refbench = Callable[..., "subprocess.CompletedProcess[str]"]
LAB = 'format = 1\n[machine]\nkernel = "6.12"\nthp = "always"\nswap = "2GiB"\nown-vmas = 30\n'


def of(text: str) -> Kernel:
    return kernel(options_of(Spec.parse(text, what="target")))


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    path = tmp_path / "lab.toml"
    path.write_text(LAB)
    return path


def test_it_is_registered_and_always_available() -> None:
    backend = registry().backend(Spec("simulator"))
    assert isinstance(backend, SimulatorBackend)
    assert backend.probe().ok
    assert registry().origins["backend simulator"] == "simulator"
    assert registry().origins["command machine"] == "simulator"


def test_every_knob_is_an_option() -> None:
    names = [option.name for option in SimulatorBackend().options]
    assert names == [*(knob.name for knob in KNOBS), "like", "from", "costs", "session"]


def test_without_options_it_is_a_stock_kernel() -> None:
    assert of("simulator") == Kernel()


def test_options_set_knobs() -> None:
    found = of(
        "simulator:page=16KiB,around=128KiB,thp=never,max-map-count=100,memory=1GiB,swap=2GiB,"
        "kernel=6.12,arch=arm64,ksm=no,privileged=no"
    )
    assert (found.page_size, found.around, found.thp) == (16384, 8, "never")
    assert (found.max_map_count, found.memory, found.swap) == (100, 1 << 30, 2 << 30)
    assert (found.version, found.arch, found.ksm, found.privileged) == (
        "6.12",
        "arm64",
        False,
        False,
    )


def test_a_saved_machine_under_what_is_asked_for(lab: Path) -> None:
    found = of(f"simulator:from={lab}")
    assert (found.version, found.thp, found.swap, found.own_vmas) == ("6.12", "always", 2 << 30, 30)
    found = of(f"simulator:from={lab},thp=madvise,swap=0")
    assert (found.version, found.thp, found.swap, found.own_vmas) == ("6.12", "madvise", 0, 30)


def test_a_stock_value_that_is_asked_for_counts(lab: Path) -> None:
    assert of(f"simulator:from={lab},kernel=6.18").version == "6.18"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("simulator:like=host,from=x.toml", "at once"),
        ("simulator:session=1", "'session'"),
        ("simulator:like=lab", "'like'"),
        ("simulator:from=none.toml", "none.toml"),
        ("simulator:page=5KiB", "'page'"),
        ("simulator:pages=4KiB", "'pages'"),
        ("host", "not the simulator"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        of(text)
    assert caught.value.remedy


def test_the_option_from_of_commands(lab: Path) -> None:
    assert str(simulated("simulator:thp=never", lab)) == f"simulator:from={lab},thp=never"
    assert simulated("host", None) == Spec("host")
    for text in ("host", "simulator:like=host", "simulator:from=other.toml"):
        with pytest.raises(UsageError) as caught:
            simulated(text, lab)
        assert caught.value.remedy


def test_where_a_knob_comes_from(lab: Path) -> None:
    options = options_of(Spec.parse(f"simulator:from={lab},thp=never", what="target"))
    assert set(machine_of(options).knobs) == {"kernel", "swap", "own-vmas"}


def test_machine_shows_saves_and_reads(refbench: Refbench, tmp_path: Path, lab: Path) -> None:
    answer = refbench("machine", "--from", lab, "--save", "kept.toml", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "simulator:from=kept.toml" in answer.stdout
    assert knobs_of(of(f"simulator:from={tmp_path / 'kept.toml'}")) == knobs_of(
        of(f"simulator:from={lab}")
    )
    told = json.loads(refbench("machine", f"simulator:from={lab},ksm=no", "--json").stdout)
    assert told["knobs"] == knobs_of(of(f"simulator:from={lab},ksm=no"))
    by = told["told_by"]
    assert (by["ksm"], by["thp"], by["page"]) == ("given", "machine", "stock")
    assert told["saved"] is None


def test_machine_reads_this_one(refbench: Refbench, tmp_path: Path) -> None:
    told = json.loads(refbench("machine", "--json", "--save", tmp_path / "here.toml").stdout)
    assert told["machine"] == "this machine"
    assert told["knobs"] == knobs_of(of("simulator:like=host"))
    assert knobs_of(of(f"simulator:from={tmp_path / 'here.toml'}")) == told["knobs"]


def test_machine_tells_what_is_wrong(refbench: Refbench, tmp_path: Path, lab: Path) -> None:
    for arguments, code, words in (
        (("host",), 2, "not the simulator"),
        (("--from", "none.toml"), 2, "none.toml"),
        (("--from", lab, "--save", lab), 4, "exists"),
    ):
        answer = refbench("machine", *arguments, cwd=tmp_path)
        assert (answer.returncode, answer.stdout) == (code, "")
        assert words in answer.stderr
        assert "Traceback" not in answer.stderr
    assert lab.read_text() == LAB
