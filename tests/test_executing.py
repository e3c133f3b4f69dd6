"""The parts of a program file that ``execute`` brings: files, variables, words."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refbench.errors import UsageError
from refbench.estimate import run_seconds
from refbench.grammar import Spec
from refbench.program import Execute, Fork, Map, Phase, Program, Repeat, executed, parse
from refbench.program.executing import quote, unquoted
from refbench.words import Cell, Pattern

HEAD = "refbench-program 1\n"
WORDS = st.text(st.characters(exclude_characters="\0", codec="utf-8"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


@given(WORDS)
def test_every_word_reads_back(word: str) -> None:
    quoted = quote(word)
    assert unquoted(quoted) == word
    assert quoted.split("#")[0].split() == [quoted]


@given(st.lists(WORDS.filter(lambda word: not word.startswith("@")), max_size=5), WORDS)
def test_a_program_reads_back(words: list[str], value: str) -> None:
    program = Program(
        "real",
        (Phase("a"), Repeat(2, (Execute("it", (*words, "@it")),)), Phase()),
        files={"it": Path(__file__)},
        environment={"WHAT": value},
    )
    assert parse(program.text(), files=program.files) == program


def test_the_text_has_the_digests_of_the_files(file: Path) -> None:
    program = Program("real", (Execute("it", seconds=9),), files={"it": file})
    assert f"\nfile it {hashlib.sha256(b'content').hexdigest()}\n" in program.text()
    cell = Cell("real", Spec.parse("anon"), Pattern(), program)
    before = cell.key
    file.write_bytes(b"something else")
    assert cell.key != before
    file.unlink()
    with pytest.raises(UsageError, match="'it' of a program"):
        program.text()


def test_a_file_is_compared_with_its_digest(file: Path) -> None:
    digest = hashlib.sha256(b"content").hexdigest()
    body = "execute it\n"
    files = {"it": file}
    assert parse(f"{HEAD}file it {digest}\n{body}", files=files).files == files
    assert parse(f"{HEAD}file it\n{body}", files=files).files == files
    with pytest.raises(UsageError, match="is not the file 'it'"):
        parse(f"{HEAD}file it {'0' * 64}\n{body}", files=files)
    with pytest.raises(UsageError, match=f"line 2: .* needs the file 'it' .* {digest}") as error:
        parse(f"{HEAD}file it {digest}\n{body}")
    assert error.value.remedy == "Say where it is: --file it=PATH."
    with pytest.raises(UsageError, match="cannot be read"):
        parse(f"{HEAD}file it\n{body}", files={"it": file.with_name("none")})


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("file\n", "followed by a name"),
        ("file a b\n", "followed by a name"),
        ("file it/it\n", "followed by a name"),
        ("environment A\n", "NAME=VALUE"),
        ("environment 1=2\n", "NAME=VALUE"),
        ("environment A=%2\n", "NAME=VALUE"),
        ("file it\nexecute\n", "needs a file"),
        ("file it\nexecute it %\n", "two hexadecimal digits"),
        ("file it\nexecute it a%00\n", "two hexadecimal digits"),
        ("file it\nexecute it %ff\n", "two hexadecimal digits"),
        (f"file it\nexecute it {'a ' * 63}\n", "at most 62"),
        ("execute it\n", "what 'it' is"),
        ("file it\nexecute it @that\n", "what 'that' is"),
        ("file it\nmap 0 4096\nexecute it\n", "maps nothing"),
        ("file it\nfork\nexecute it\nparent\nend\n", "inside fork"),
        ("file it\nparallel\nthreads 1\nexecute it\nend\nend\n", "inside fork or threads"),
    ],
)
def test_nonsense_is_refused(file: Path, lines: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse(HEAD + lines, files={"it": file})


def test_the_executed_steps_are_found_in_blocks() -> None:
    steps = (Repeat(2, (Execute("a"), Repeat(3, (Execute("b"),)))), Fork((Map(0, 4096),)))
    assert [step.file for step in executed(steps)] == ["a", "b"]


def test_the_estimate_has_what_the_workload_says(file: Path) -> None:
    body = (Execute("it", seconds=5), Repeat(2, (Execute("it", seconds=10),)))
    program = Program("real", body, files={"it": file})
    assert 50 < run_seconds(program, Spec.parse("anon"), 4096, 1) < 51
