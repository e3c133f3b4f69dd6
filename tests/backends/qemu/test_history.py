"""The history's points of the instruction clock: a commit has one, however often it is measured."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest

from refbench import asv, kernel_costs
from refbench.cache import Cache
from refbench.plugins import registry
from refbench.vm.kernels import Kernel

MECHANISMS = ("anon", "memfd:block=16", "memset", "refpage")
CASES = ("sparse-write", "v4-one")
METRICS = ("time", "hwm", "lost", "rss", "traps", "syscalls")


@pytest.fixture
def only_qemu(patched: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setenv("ASV_CONF_DIR", str(tmp_path))
    monkeypatch.setenv(asv.TARGETS_VARIABLE, "qemu")
    return patched


def point() -> dict[tuple[str, str, str], object]:
    """What asv would keep of one measurement, in a boot of its own."""
    journal = asv.measure(("host", "qemu"), MECHANISMS, CASES)
    found: dict[tuple[str, str, str], object] = {}
    for mechanism in MECHANISMS:
        for case in CASES:
            for metric in METRICS:
                with contextlib.suppress(NotImplementedError):
                    found[mechanism, case, metric] = asv.cell(
                        journal, target="qemu", mechanism=mechanism, case=case, metric=metric
                    )
    return found


def samples(value: object) -> list[float]:
    assert isinstance(value, dict), value
    return list(value["samples"])


def test_two_boots_give_the_same_point(only_qemu: Kernel) -> None:
    first, second = point(), point()
    assert first.keys() == second.keys()
    assert len(first) == len(MECHANISMS) * len(CASES) * len(METRICS)
    for cell, value in first.items():
        (one,), (other,) = samples(value), samples(second[cell])
        spread = 5e-4 if cell[2] == "time" else 0.0
        assert other == pytest.approx(one, rel=spread, abs=0.0), cell


def test_instructions_have_no_overhead_of_this_machine(only_qemu: Kernel) -> None:
    journal = asv.measure(("qemu",), ("anon",), ("v4-one",))
    with pytest.raises(NotImplementedError):
        asv.cell(journal, target="qemu", mechanism="anon", case="v4-one", metric="overhead")


def test_a_boot_and_a_warm_cell_are_timed(patched: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_costs, "built_seconds", lambda: 1.0)
    monkeypatch.setattr(kernel_costs, "BOOTS", 1)
    seconds = kernel_costs.measured(registry())
    (boot,) = seconds["boot"]
    assert len(seconds["overhead"]) == kernel_costs.WARM
    assert 0 < min(seconds["overhead"]) < boot < 60


def test_a_build_is_timed_once_and_kept(
    patched: Kernel, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is built is the business of other tests, and takes minutes."""
    asked: list[Path] = []

    def build(variables: dict[str, str]) -> None:
        empty = Path(variables["REFBENCH_CACHE"])
        assert variables["CCACHE_DISABLE"]
        assert {path.name for path in empty.iterdir()} <= {"kernel-source"}
        asked.append(empty)

    monkeypatch.setattr(kernel_costs, "build", build)
    shutil.copytree(cache / "kernel", tmp_path / "kernel")
    store = Cache(tmp_path)
    first = kernel_costs.built_seconds(store)
    assert kernel_costs.built_seconds(store) == first >= 0
    (empty,) = asked
    assert not empty.exists()
