"""Saved machines: descriptions and journals, and what is wrong with bad ones."""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from refbench.errors import RefbenchError, StorageError, UsageError
from refbench.journal import Header, Journal
from refbench.plan import Request
from refbench.samples import CellId, Environment, MemorySnapshot, PhaseCounters, Run, Sample
from refbench_simulator.machine import this_machine
from refbench_simulator.saved import FORMAT, description, load, save
from refbench_simulator.settings import facts, kernel_of, knobs_of, parse

Refbench = Callable[..., "subprocess.CompletedProcess[str]"]
HEAD = f"format = {FORMAT}\n[machine]\n"
PHONE = Environment(
    target="adb:serial=1",
    clock="real",
    kernel="6.12.23-android16-5-g1a2b3c",
    arch="arm64",
    page_size=16384,
    facts={
        "refbench": "0.1.0",
        "thp": "always",
        "fault-around-bytes": "not readable",
        "vm.max_map_count": "65535",
        "ksm": "2",
        "memory": "8000000000",
        "swap": "4194304",
        "user": "shell",
    },
)


def journal(path: Path, *environments: Environment, vmas: int | None = None) -> Path:
    header = Header(refbench="0.1.0", started="", targets=("host",), request=Request())
    with Journal.create(path, header) as writer:
        for environment in environments:
            number = writer.session(environment)
            if vmas is not None:
                writer.append(
                    number, 0, CellId(key="", workload="", mechanism="", pattern=""), _run(vmas)
                )
        writer.finish()
    return path


def _run(vmas: int) -> Run:
    start = MemorySnapshot(rss=0, rss_anon=0, rss_file=0, rss_shmem=0, hwm=0, pte=0, vmas=vmas)
    sample = Sample(index=0, phases={"map": PhaseCounters(ns=1)}, memory={"start": start})
    return Run(samples=(sample,))


def test_a_description_is_toml_that_people_can_read_and_change(tmp_path: Path) -> None:
    kernel = kernel_of(parse({"page": "64KiB", "swap": "1GiB"}, name="x", what="target"))
    text = description(kernel, "the lab's\n[board]")
    table = tomllib.loads(text)
    assert (table["format"], table["machine"]["page"], table["machine"]["swap"]) == (
        FORMAT,
        "64KiB",
        "1GiB",
    )
    file = tmp_path / "lab.toml"
    file.write_text(text.replace('swap = "1GiB"', "swap = 4096"))
    assert kernel_of(load(file).knobs) == replace(kernel_of(knobs_of(kernel)), swap=4096)


def test_what_is_saved_is_what_is_read(tmp_path: Path) -> None:
    kernel = kernel_of(
        parse({"memory": "1500000001", "ksm": "no", "kernel": "6.1"}, name="x", what="target")
    )
    save(kernel, tmp_path / "a.toml", "a")
    machine = load(tmp_path / "a.toml")
    assert machine.knobs == knobs_of(kernel)
    assert machine.assumed == ()


def test_a_description_may_leave_out_what_is_stock(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(HEAD + 'thp = "never"\n')
    machine = load(file)
    assert machine.knobs == {"thp": "never"}
    assert "page" in machine.assumed


def test_a_file_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("mine")
    with pytest.raises(StorageError, match=r"a\.toml exists"):
        save(kernel_of({}), file, "a")
    assert file.read_text() == "mine"
    with pytest.raises(StorageError, match="cannot be written"):
        save(kernel_of({}), tmp_path / "none" / "a.toml", "a")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("no format", "format = 1")),
        ("format = 2\n[machine]\n", ("the format 2", "format = 1")),
        (f"format = {FORMAT}\n", ("no table [machine]",)),
        (f"format = {FORMAT}\nmachine = 3\n", ("no table [machine]",)),
        (f"format = {FORMAT}\nmachin = 3\n[machine]\n", ("'machin'", "'machine'")),
        ("page = 4KiB\n", ("no machine description", "line 1")),
        ("\x00\x01", ("no machine description",)),
        (HEAD + "arround = 4096\n", ("'arround'", "'around'")),
        (HEAD + 'page = "much"\n', ("'page'", "'much'", "64MiB")),
        (HEAD + "page = 8192\n", ("'page'", "8KiB", "16KiB")),
        (HEAD + "page = 4096.5\n", ("page = 4096.5",)),
        (HEAD + "swap = [1]\n", ("swap = [1]",)),
        (HEAD + 'kernel = "4.19"\n', ("'kernel'", "4.19", "kernel=6.1")),
        (HEAD + "kernel = 6.18\n", ("kernel = 6.18", "text")),
        (HEAD + 'ksm = "often"\n', ("'ksm'", "'often'", "yes or no")),
        (HEAD + "max-map-count = -5\n", ("'max-map-count'", "at least 0")),
        ('{"type":"jour', ("not a journal",)),
        ('{"commit":"abc"}\n', ("line 1",)),
    ],
)
def test_a_bad_file_is_named_with_key_cause_and_remedy(
    text: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(RefbenchError) as caught:
        load(file)
    assert caught.value.remedy
    for word in (str(file), *words):
        assert word in str(caught.value)


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load(tmp_path / "none.toml")
    with pytest.raises(UsageError, match=r"journal\.jsonl cannot be read"):
        load(tmp_path)
    file = tmp_path / "b"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="no machine description"):
        load(file)


def test_a_key_that_is_overridden_may_be_wrong(tmp_path: Path) -> None:
    file = tmp_path / "old.toml"
    file.write_text(HEAD + 'kernel = "4.19"\nthp = "never"\n')
    assert load(file, without={"kernel"}).knobs == {"thp": "never"}


def test_the_machine_that_a_journal_was_measured_on(tmp_path: Path) -> None:
    machine = load(journal(tmp_path / "journal.jsonl", PHONE, vmas=23))
    kernel = kernel_of(machine.knobs)
    assert (kernel.version, kernel.arch, kernel.page_size) == ("6.12", "arm64", 16384)
    assert (kernel.thp, kernel.max_map_count, kernel.swap) == ("always", 65535, 4194304)
    assert (kernel.ksm, kernel.own_vmas) == (False, 23)
    assert kernel.memory == kernel_of({}).memory
    assert set(machine.assumed) == {
        "around",
        "privileged",
        "unprivileged-userfaultfd",
        "pt-reclaim",
        "vsyscall",
    }
    assert load(tmp_path) == machine


def test_a_journal_of_the_simulator_gives_its_kernel_back(tmp_path: Path) -> None:
    for number, text in enumerate(("memory=1GiB,ksm=no", "page=64KiB,privileged=no", "kernel=6.5")):
        options = dict(item.split("=") for item in text.split(","))
        kernel = kernel_of(parse(options, name="x", what="target"))
        environment = Environment(
            target="simulator",
            clock="modelled",
            kernel=kernel.version,
            arch=kernel.arch,
            page_size=kernel.page_size,
            facts=facts(kernel),
        )
        machine = load(journal(tmp_path / f"{number}.jsonl", environment))
        assert knobs_of(kernel_of(machine.knobs)) == knobs_of(kernel)
        assert machine.assumed == ()


def test_sessions_that_differ_are_chosen_among(tmp_path: Path) -> None:
    other = replace(PHONE, target="host", page_size=4096)
    path = journal(tmp_path / "j", PHONE, PHONE, other)
    with pytest.raises(UsageError, match=r"session 0 \(adb.*session 2 \(host\)") as caught:
        load(path)
    assert "session=NUMBER" in caught.value.remedy
    assert load(path, 1).knobs["page"] == 16384
    assert load(path, 2).knobs["page"] == 4096
    with pytest.raises(UsageError, match="no session 3"):
        load(path, 3)
    assert load(journal(tmp_path / "same", PHONE, PHONE)).knobs["page"] == 16384


def test_a_journal_without_a_session_has_no_machine(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no session"):
        load(journal(tmp_path / "j"))


def test_a_description_has_no_sessions(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(HEAD)
    with pytest.raises(UsageError, match="'session'"):
        load(file, 0)


def test_a_run_here_tells_what_reading_this_machine_tells(
    refbench: Refbench, tmp_path: Path
) -> None:
    options = ("-m", "anon", "-w", "sparse-touch:size=1MiB", "--runs", "1", "--iterations", "1")
    answer = refbench("run", "-b", "host", *options, "-o", tmp_path / "run")
    assert answer.returncode == 0, answer.stderr
    machine = load(tmp_path / "run")
    here = this_machine().knobs
    assert {"thp", "max-map-count", "ksm", "privileged", "own-vmas"} <= machine.knobs.keys()
    assert {name: here[name] for name in machine.knobs} == machine.knobs
