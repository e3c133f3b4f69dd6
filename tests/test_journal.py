"""The journal: what was appended is there, whatever happens to the process or the disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from refbench.errors import StorageError, UsageError
from refbench.journal import Header, Journal, read
from refbench.plan import Request
from refbench.samples import CellId, Environment, Failure, PhaseCounters, Run, Sample

CELL = CellId(key="k", workload="w", mechanism="anon", pattern="byte:0xAA")
HERE = Environment(target="host", clock="real", kernel="6", arch="x86_64", page_size=4096)


def header() -> Header:
    return Header(
        refbench="0", started="2020-07-31T00:00:00Z", targets=("host",), request=Request()
    )


def run(ns: int = 5) -> Run:
    return Run(samples=(Sample(index=0, phases={"touch": PhaseCounters(ns=ns)}, memory={}),))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "journal.jsonl"


def write(path: Path, runs: int) -> None:
    with Journal.create(path, header()) as journal:
        number = journal.session(HERE)
        for index in range(runs):
            journal.append(number, index, CELL, run(index + 1))


def test_what_was_appended_is_read_back(path: Path) -> None:
    with Journal.create(path, header()) as journal:
        first = journal.session(HERE)
        journal.append(first, 0, CELL, run(1))
        second = journal.session(HERE)
        failed = Run(failure=Failure(kind="crashed", message="signal 11"))
        journal.append(second, 1, CELL, failed)
        journal.finish()
    content = read(path)
    assert content.complete
    (measurement,) = content.measurements()
    assert measurement.environment == HERE
    assert [each.boot for each in measurement.runs] == [0, 1]
    assert measurement.good[0].samples[0].phases["touch"].ns == 1
    assert measurement.runs[1].failure == failed.failure


def test_nothing_but_the_journal_stays(path: Path) -> None:
    write(path, 1)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_cut_last_line_is_dropped_and_measured_again(path: Path, cut: int) -> None:
    write(path, 3)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    assert len(read(path).runs) == 2
    assert read(path).cut
    with Journal.resume(path) as journal:
        assert len(journal.before.runs) == 2
        journal.append(0, 2, CELL, run(3))
        journal.finish()
    content = read(path)
    assert content.complete
    assert [line.run.samples[0].phases["touch"].ns for line in content.runs] == [1, 2, 3]


def test_damage_in_the_middle_is_named_by_line(path: Path) -> None:
    write(path, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2][: len(lines[2]) // 2] + b"\n"
    path.write_bytes(b"".join(lines))
    with pytest.raises(StorageError, match="line 3, is damaged"):
        read(path)


@pytest.mark.parametrize("text", ["", "{}\n", "hello\n", '{"type":"end","runs":1}\n'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    other = tmp_path / "other"
    other.write_text(text)
    with pytest.raises(StorageError) as caught:
        read(other)
    assert "other" in str(caught.value)


def test_later_version_is_refused(path: Path) -> None:
    write(path, 1)
    path.write_text(path.read_text().replace('"version":1', '"version":9', 1))
    with pytest.raises(StorageError, match="version 9"):
        read(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read"):
        read(tmp_path / "none")


def test_existing_journal_is_never_overwritten(path: Path) -> None:
    write(path, 1)
    before = path.read_bytes()
    with pytest.raises(StorageError, match="--output"):
        Journal.create(path, header())
    assert path.read_bytes() == before


def test_two_writers(path: Path) -> None:
    with Journal.create(path, header()), pytest.raises(UsageError, match="another process"):
        Journal.resume(path)


def test_complete_journal_has_nothing_to_resume(path: Path) -> None:
    with Journal.create(path, header()) as journal:
        journal.finish()
    with pytest.raises(UsageError, match="nothing is left"):
        Journal.resume(path)


FILL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_journal import CELL, HERE, header, run
from refbench.errors import StorageError
from refbench.journal import Journal
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal.create(Path({path!r}), header())
number = journal.session(HERE)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    for index in range(1000):
        journal.append(number, index, CELL, run(index))
except StorageError as error:
    print(index, error)
"""


def test_disk_that_fills_up_keeps_what_was_written(path: Path) -> None:
    """A file size limit ends a write in the middle, as a full disk does."""
    script = FILL.format(tests=str(Path(__file__).parent), path=str(path))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    count, _, message = done.stdout.partition(" ")
    assert int(count) > 2
    assert "--resume" in message
    assert f"The {count} runs before are kept." in message
    content = read(path)
    assert len(content.runs) == int(count)
    assert content.cut == 0
