"""The step ``execute`` in the agent: what a program costs, says and leaves behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from refbench.backend import Answer
from refbench.linking import libraries, loader_of
from refbench.protocol import Report, parse
from refbench.samples import Failure, Sample

HERE = Path(__file__).parent
MIB = 1 << 20
ARCH = {"x86_64": "x86_64", "aarch64": "arm64"}[os.uname().machine]

Execute = Callable[..., Report]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """executed.c, linked as programs are, where everybody can read it."""
    out = tmp_path_factory.mktemp("executed") / "executed"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    flags = ["-std=gnu11", "-O0", "-pthread", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *flags, str(HERE / "executed.c"), "-o", str(out)], check=True)
    return out


@pytest.fixture
def execute(binary: Path, program: Path, tmp_path: Path) -> Execute:
    """Lets the agent execute it with some words; further arguments are the agent's."""

    def run(*words: str, more: Sequence[str] = (), iterations: int = 1, repeat: int = 1) -> Report:
        file = tmp_path / "execute.program"
        file.write_text(
            f"refbench-program 1\nfile it\nrepeat {repeat}\nphase run\n"
            f"execute it {' '.join(words)}\nphase -\nend\n"
        )
        return ask(binary, file, program, iterations, more)

    return run


def ask(
    agent: Path,
    file: Path,
    program: Path,
    iterations: int = 1,
    more: Sequence[str] = (),
    prefix: Sequence[str] = (),
) -> Report:
    loader = loader_of(program, ARCH)
    argv = [*prefix, str(agent), "--program", str(file), "--mechanism", "anon"]
    argv += ["--iterations", str(iterations), "--loader", str(loader), "--file", f"it={program}"]
    argv += ["--libraries", ":".join(map(str, libraries(loader, [program])))]
    done = subprocess.run([*argv, *more], capture_output=True, text=True, timeout=100)
    assert not done.stderr
    return parse(Answer(tuple(done.stdout.splitlines()), returncode=done.returncode))


def sample(report: Report) -> Sample:
    assert report.failure is None, report.failure
    return report.samples[-1]


def failure(report: Report) -> Failure:
    assert report.failure is not None
    return report.failure


def test_time_faults_and_memory_are_the_programs(execute: Execute) -> None:
    little, much = (sample(execute(f"take={size}", "sleep=30")) for size in (1, 33))
    phase, memory = much.phases["run"], much.memory["exit"]
    assert 30e6 < phase.ns < 30e9
    assert phase.entries == 1
    pages = 32 * MIB // os.sysconf("SC_PAGE_SIZE")
    assert abs(phase.faults - little.phases["run"].faults - pages) < pages / 50
    assert 0 < phase.user_ns + phase.system_ns < phase.ns
    assert memory.executed
    assert not much.memory["start"].executed
    assert abs(memory.hwm - little.memory["exit"].hwm - 32 * MIB) < MIB
    assert 32 * MIB < memory.rss_anon < 40 * MIB
    assert memory.pss is not None
    assert 32 * MIB < memory.pss < 40 * MIB
    assert memory.vmas > 10


def test_threads_and_waited_for_children_are_counted(execute: Execute) -> None:
    alone = sample(execute()).phases["run"].faults
    pages = MIB // os.sysconf("SC_PAGE_SIZE")
    threads = sample(execute("threads=8"))
    assert threads.phases["run"].faults > alone + pages
    child = sample(execute("child=8"))
    assert child.phases["run"].faults > alone + 8 * pages
    assert child.memory["exit"].hwm < 8 * MIB


def test_its_last_memory_is_seen_when_its_first_thread_ends_early(execute: Execute) -> None:
    found = sample(execute("take=8", "zombie"))
    assert found.memory["exit"].hwm > 8 * MIB
    assert found.phases["run"].ns > 50e6


def test_a_program_that_executes_itself_again_is_followed(execute: Execute) -> None:
    found = sample(execute("take=64", "again", "take=8", "report=x%201"))
    assert found.values == {"x": 1}
    assert 8 * MIB < found.memory["exit"].hwm < 16 * MIB


def test_phases_add_up_and_labels_keep_the_latest(execute: Execute) -> None:
    found = sample(execute("sleep=20", "report=x%201", repeat=3))
    assert found.phases["run"].entries == 3
    assert found.phases["run"].ns > 60e6
    assert found.values == {"x": 1}


def test_values_are_what_it_writes_to_descriptor_3(execute: Execute) -> None:
    most = (1 << 64) - 1
    found = sample(execute(f"report=page-1-hash%20{most}", "report=a%200", "report=a%207"))
    assert found.values == {"page-1-hash": most, "a": 7}
    assert sample(execute()).values == {}
    many = sample(execute("many=4000")).values
    assert len(many) == 4000
    assert many["value-3999"] == 3999**2


@pytest.mark.parametrize(
    "text",
    ["x", "x%20", "x%20-1", "x%201.5", "X%201", "x%20y", f"x%20{1 << 64}", f"{'x' * 64}%201", ""],
)
def test_what_is_no_value_ends_the_run(execute: Execute, text: str) -> None:
    found = failure(execute(f"report={text}"))
    assert found.kind == "usage"
    assert "it wrote to descriptor 3" in found.message


def test_too_many_values_end_the_run(execute: Execute) -> None:
    assert "too many" in failure(execute("many=4097")).message


def test_arguments_and_variables_arrive(execute: Execute) -> None:
    assert sample(execute("variable=HERE", more=["--environment", "HERE=77"])).values == {
        "variable": 77
    }
    os.environ["HERE"] = "5"
    try:
        assert sample(execute("variable=HERE")).values == {"variable": 5}
        again = execute("variable=HERE", more=["--environment", "HERE=6"])
        assert sample(again).values == {"variable": 6}
    finally:
        del os.environ["HERE"]


def test_signals_are_as_a_program_expects_them(execute: Execute) -> None:
    assert sample(execute("signals")).values == {"plain": 1}


@pytest.mark.parametrize("number", [6, 11, 15])
def test_a_signal_is_a_crash_with_its_last_words(execute: Execute, number: int) -> None:
    found = failure(execute("chat=0", f"raise={number}"))
    assert found.kind == "crashed"
    assert f"signal {number} " in found.message
    assert "the last word" in found.message
    assert found.log == ("the last word",)


def test_a_status_is_a_crash(execute: Execute) -> None:
    found = failure(execute("exit=3"))
    assert (found.kind, found.log) == ("crashed", ())
    assert "it ended with status 3." in found.message


def test_a_kill_is_a_limit(execute: Execute) -> None:
    assert failure(execute("raise=9")).kind == "limit-hit"


def test_a_program_that_stops_itself_goes_on(execute: Execute) -> None:
    assert sample(execute("raise=19", "raise=20", "report=x%201")).values == {"x": 1}


def test_what_it_says_is_bounded_and_the_end_is_kept(execute: Execute) -> None:
    found = failure(execute(f"chat={4 * MIB}", "exit=1"))
    assert found.log == (*["nonsense "] * 19, "the last word")


def test_what_it_leaves_running_is_ended(execute: Execute, program: Path) -> None:
    began = time.monotonic()
    report = execute("leave", "report=x%201")
    assert sample(report).values == {"x": 1}
    assert time.monotonic() - began < 60
    there = [path for path in Path("/proc").glob("[0-9]*") if str(program) in command(path)]
    assert there == []


def command(process: Path) -> str:
    try:
        return process.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (OSError, UnicodeDecodeError):
        return ""


def test_an_ordinary_user_gets_the_same(
    binary: Path, program: Path, user_folder: Path, user_prefix: Sequence[str]
) -> None:
    agent, it, file = (user_folder / name for name in ("agent", "it", "execute.program"))
    shutil.copy(binary, agent)
    shutil.copy(program, it)
    file.write_text("refbench-program 1\nfile it\nphase run\nexecute it take=8 report=x%201\n")
    found = sample(ask(agent, file, it, prefix=user_prefix))
    assert found.values == {"x": 1}
    assert found.memory["exit"].hwm > 8 * MIB
    assert found.memory["exit"].pss


def refusal(binary: Path, tmp_path: Path, lines: str, *more: str) -> Failure:
    file = tmp_path / "refused.program"
    file.write_text("refbench-program 1\n" + lines)
    argv = [str(binary), "--program", str(file), "--mechanism", "anon", *more]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100)
    return failure(parse(Answer(tuple(done.stdout.splitlines()), returncode=done.returncode)))


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("file it\nexecute that\n", "'that' was not brought"),
        ("file other\n", "'other' was not brought"),
        ("file\n", "followed by a name"),
        ("environment X\n", "NAME=VALUE"),
        ("execute\n", "needs a file"),
        ("execute it @that\n", "'that' was not brought"),
        ("execute it a%2\n", "two digits"),
        ("execute it a%00b\n", "two digits"),
        (f"execute it {'a ' * 63}\n", "at most 62"),
        ("fork\nexecute it\nparent\nend\n", "inside fork"),
        ("parallel\nthreads 1\nexecute it\nend\nend\n", "inside fork or threads"),
        ("map 0 4096\nexecute it\n", "maps nothing"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    binary: Path, tmp_path: Path, lines: str, why: str
) -> None:
    found = refusal(binary, tmp_path, lines, "--file", "it=/bin/true")
    assert found.kind == "usage"
    assert why in found.message


def test_what_cannot_be_executed_is_unsupported(binary: Path, tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense"
    nonsense.write_bytes(b"\0nonsense")
    nonsense.chmod(0o755)
    for path, why in ((nonsense, "Exec format error"), (tmp_path / "none", "No such file")):
        found = refusal(binary, tmp_path, "execute it\n", "--file", f"it={path}")
        assert found.kind == "unsupported"
        assert why in found.message


def test_python_and_its_threads(binary: Path, tmp_path: Path) -> None:
    """A real program that makes threads, loads libraries as it goes, and forks."""
    code = (
        "import os,sys,threading,ssl,subprocess;"
        "made=[threading.Thread(target=bytearray,args=(1<<22,)) for _ in range(8)];"
        "[t.start() for t in made];[t.join() for t in made];"
        "os.write(3,b'threads %d\\n'%len(made));"
        "sys.exit(subprocess.run([sys._base_executable,'-c','']).returncode)"
    )
    quoted = code.replace("%", "%25").replace(" ", "%20")
    file = tmp_path / "python.program"
    file.write_text(f"refbench-program 1\nfile it\nphase run\nexecute it -c {quoted}\n")
    found = sample(ask(binary, file, Path(sys.executable).resolve()))
    assert found.values == {"threads": 8}
