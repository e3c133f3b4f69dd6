"""The settings of the modelled kernel: what follows from them, how they are written and told."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refbench.errors import UsageError
from refbench_simulator.knobs import CHANGES, UNLIMITED, Kernel, Release, special_vmas
from refbench_simulator.settings import (
    KNOBS,
    facts,
    kernel_of,
    knobs_of,
    override,
    parse,
    release_of,
    spell,
)

ROOT = Path(__file__).resolve().parents[3]
KIB = 1024


def made(**texts: str) -> Kernel:
    """The kernel of options as they are written, ``max_map_count="7"`` for max-map-count=7."""
    written = {name.replace("_", "-"): text for name, text in texts.items()}
    return kernel_of(parse(written, name="simulator", what="target"))


kernels = st.builds(
    lambda release, page, around, thp, limits, switches, own: kernel_of(
        {
            "kernel": f"{release[0]}.{release[1]}",
            "page": page,
            "around": min(around * page, page * page // 8),
            "thp": thp,
            "max-map-count": limits[0],
            "memory": limits[1] or UNLIMITED,
            "swap": limits[2],
            **dict(
                zip(
                    ("ksm", "privileged", "unprivileged-userfaultfd", "pt-reclaim", "vsyscall"),
                    switches,
                    strict=True,
                )
            ),
            "own-vmas": own,
        }
    ),
    st.sampled_from([(6, 1), (6, 5), (6, 12), (6, 18), (7, 3)]),
    st.sampled_from([4096, 16384, 65536]),
    st.integers(0, 600),
    st.sampled_from(["never", "madvise", "always"]),
    st.tuples(st.integers(0, 1 << 20), st.sampled_from([0, 1 << 20, 3 << 29]), st.integers(0, 99)),
    st.tuples(*[st.booleans()] * 5),
    st.integers(1, 99),
)


def test_a_stock_kernel_is_what_no_knob_makes() -> None:
    assert made() == Kernel()
    assert kernel_of(knobs_of(Kernel())) == dataclasses.replace(Kernel(), pt_reclaim=True)


@pytest.mark.parametrize(
    ("around", "page", "pages"),
    [
        ("64KiB", "4KiB", 16),
        ("64KiB", "16KiB", 4),
        ("64KiB", "64KiB", 1),
        ("0", "4KiB", 1),
        ("4KiB", "4KiB", 1),
        ("100KiB", "4KiB", 16),
        ("12KiB", "4KiB", 2),
        ("2MiB", "4KiB", 512),
        ("512MiB", "64KiB", 8192),
    ],
)
def test_fault_around_is_rounded_as_the_kernel_rounds_it(
    around: str, page: str, pages: int
) -> None:
    assert made(around=around, page=page).around == pages


def test_fault_around_is_at_most_what_a_page_table_holds() -> None:
    with pytest.raises(UsageError, match="at most 2MiB"):
        made(around="4MiB")


def test_page_sizes_give_the_sizes_of_tables_and_huge_pages() -> None:
    for page, entries in (("4KiB", 512), ("16KiB", 2048), ("64KiB", 8192)):
        kernel = made(page=page)
        assert (kernel.entries, kernel.huge) == (entries, entries)


def test_larger_pages_mean_arm64() -> None:
    assert made(page="64KiB").arch == "arm64"
    assert made(page="4KiB").arch == "x86_64"
    assert made(page="4KiB", arch="arm64").arch == "arm64"
    with pytest.raises(UsageError, match="x86_64 has no pages of 16KiB"):
        made(page="16KiB", arch="x86_64")


@pytest.mark.parametrize(
    ("name", "last_without", "first_with", "values"),
    [
        ("handled_userfault_is_major", "6.5", "6.6", (True, False)),
        ("unprepared_userfault_is_major", "6.9", "6.10", (True, False)),
        ("splits_vvar", "6.12", "6.13", (False, True)),
        ("reclaims_tables", "6.13", "6.14", (False, True)),
        ("merges_untouched", "6.15", "6.16", (False, True)),
        ("moves_many_vmas", "6.16", "6.17", (False, True)),
    ],
)
def test_behaviour_changes_with_the_release(
    name: str, last_without: str, first_with: str, values: tuple[bool, bool]
) -> None:
    before, after = made(kernel=last_without), made(kernel=first_with)
    assert (getattr(before, name), getattr(after, name)) == values


def test_arm64_gives_tables_back_later() -> None:
    assert not made(arch="arm64", kernel="6.18").reclaims_tables
    assert made(arch="arm64", kernel="7.0").reclaims_tables
    assert not made(kernel="7.0", pt_reclaim="no").reclaims_tables


def test_every_change_is_a_property_and_in_the_manual() -> None:
    text = (ROOT / "docs" / "simulator.md").read_text(encoding="utf-8")
    for change in CHANGES:
        stem = re.sub(r"_(x86_64|arm64)\Z", "", change.name)
        assert isinstance(getattr(Kernel, stem), property), change.name
        word, release = ("before", change.until) if change.until else ("from", change.since)
        assert release is not None
        row = f"| `{change.name}` | {word} {release[0]}.{release[1]} | {change.about} | "
        assert f"{row}{change.source} |" in text, f"docs/simulator.md needs {row}"


def test_every_knob_is_in_the_manual() -> None:
    text = (ROOT / "docs" / "simulator.md").read_text(encoding="utf-8")
    assert [knob.name for knob in KNOBS if f"| `{knob.name}=" not in text] == []


@pytest.mark.parametrize(
    ("release", "arch", "vsyscall", "lines"),
    [
        ((6, 18), "x86_64", True, 4),
        ((6, 18), "x86_64", False, 3),
        ((6, 12), "x86_64", True, 3),
        ((6, 18), "arm64", False, 2),
    ],
)
def test_the_kernel_adds_lines_to_maps(
    release: Release, arch: str, vsyscall: bool, lines: int
) -> None:
    assert special_vmas(release, "arm64" if arch == "arm64" else "x86_64", vsyscall=vsyscall) == (
        lines
    )


def test_the_vsyscall_page_is_a_line_and_no_vma() -> None:
    assert (made().own_vmas, made().counted_vmas) == (17, 16)
    assert (made(vsyscall="no").own_vmas, made(vsyscall="no").counted_vmas) == (16, 16)
    assert (made(arch="arm64").own_vmas, made(arch="arm64").counted_vmas) == (15, 15)
    assert made(own_vmas="40").counted_vmas == 39


def test_userfaultfd_for_kernel_faults() -> None:
    assert made().serves_kernel_faults
    assert not made(privileged="no").serves_kernel_faults
    assert made(privileged="no", unprivileged_userfaultfd="yes").serves_kernel_faults


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"page": "8KiB"}, ("'page'", "8KiB", "4KiB, 16KiB or 64KiB")),
        ({"kernel": "new"}, ("'kernel'", "'new'", "6.18")),
        ({"kernel": "5.10"}, ("'kernel'", "5.10", "kernel=6.1")),
        ({"arround": "4KiB"}, ("'arround'", "'around'")),
        ({"thp": "sometimes"}, ("'thp'", "'sometimes'", "never")),
        ({"max-map-count": "-1"}, ("'max-map-count'", "at least 0")),
        ({"ksm": "perhaps"}, ("'ksm'", "'perhaps'", "yes or no")),
        ({"memory": "1KiB"}, ("'memory'", "at least 1MiB")),
    ],
)
def test_a_wrong_knob_is_named_with_its_remedy(
    written: dict[str, str], words: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError) as caught:
        parse(written, name="simulator", what="target")
    for word in words:
        assert word in str(caught.value)


def test_releases_are_read_as_uname_tells_them() -> None:
    assert release_of("6.18.44-amd64") == (6, 18)
    assert release_of("6.1") == (6, 1)
    assert made(kernel="6.12.3-cloud").version == "6.12"


@given(kernels)
@settings(max_examples=200, deadline=None)
def test_knobs_survive_being_written_and_read(kernel: Kernel) -> None:
    knobs = knobs_of(kernel)
    written = {name: spell(name, value) for name, value in knobs.items()}
    again = kernel_of(parse(written, name="x", what="file"))
    assert knobs_of(again) == knobs
    assert facts(again) == facts(kernel)
    assert again.around == kernel.around


@given(kernels, kernels)
@settings(max_examples=200, deadline=None)
def test_kernels_that_differ_in_a_fact_differ(one: Kernel, other: Kernel) -> None:
    fields = ("kernel", "arch", "page")
    same = [knobs_of(one).get(name) == knobs_of(other).get(name) for name in fields]
    assert (knobs_of(one) == knobs_of(other)) == (all(same) and facts(one) == facts(other))


def test_facts_are_those_of_a_machine() -> None:
    assert facts(made(memory="1GiB", ksm="no", privileged="no", around="100KiB")) == {
        "fault-around-bytes": "65536",
        "thp": "madvise",
        "vm.max_map_count": "65530",
        "memory": str(1 << 30),
        "swap": "0",
        "ksm": "0",
        "user": "ordinary",
        "vm.unprivileged_userfaultfd": "0",
        "pt-reclaim": "yes",
        "vsyscall": "yes",
        "own-vmas": "17",
    }
    assert facts(made())["memory"] == "unlimited"


def test_what_is_asked_for_goes_over_what_a_machine_has() -> None:
    machine = knobs_of(made(thp="always", swap="1GiB", own_vmas="20"))
    kernel = kernel_of(override(machine, {"thp": "never"}))
    assert (kernel.thp, kernel.swap, kernel.own_vmas) == ("never", 1 << 30, 20)


def test_what_follows_from_kernel_and_architecture_follows_the_new_ones() -> None:
    machine = knobs_of(made(own_vmas="21"))
    older = kernel_of(override(machine, {"kernel": "6.12"}))
    assert (older.reclaims_tables, older.own_vmas) == (False, 16)
    same = kernel_of(override(machine, {"kernel": "6.18"}))
    assert (same.reclaims_tables, same.own_vmas) == (True, 21)
    large = kernel_of(override(machine, {"page": 65536}))
    assert (large.arch, large.reclaims_tables, large.own_vmas) == ("arm64", False, 15)
    asked = kernel_of(override(machine, {"page": 65536, "pt-reclaim": True}))
    assert asked.reclaims_tables
