"""What reality does to a run: no compiler, no userfaultfd, a full disk, nothing may be written."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

Refbench = Callable[..., "CompletedProcess[str]"]
SMALL = ("-w", "dense-touch:size=1MiB", "--iterations", "1")

COMMAND = str(Path(sys.executable).with_name("refbench"))

# Refuses userfaultfd(2) and the same through /dev/userfaultfd (USERFAULTFD_IOC_NEW), as a
# sandbox does, and runs the rest of its arguments. seccomp(2) has the layout of the data.
REFUSER = r"""
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define UNLESS(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip)
#define ANSWER(value) BPF_STMT(BPF_RET | BPF_K, value)

int main(int argc, char **argv)
{
    struct sock_filter code[] = {
        LOAD(nr),
        UNLESS(SYS_userfaultfd, 1),
        ANSWER(SECCOMP_RET_ERRNO | EPERM),
        UNLESS(SYS_ioctl, 3),
        LOAD(args[1]),
        UNLESS(0xAA00, 1),
        ANSWER(SECCOMP_RET_ERRNO | EPERM),
        ANSWER(SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

    if (argc < 2 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        return 99;
    execv(argv[1], argv + 1);
    return 98;
}
"""


@pytest.fixture(scope="session")
def without_userfaultfd(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The prefix of a command that must do without userfaultfd."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    place = tmp_path_factory.mktemp("seccomp")
    (place / "refuse.c").write_text(REFUSER)
    subprocess.run(
        [compiler, "-Wall", "-Werror", "-o", place / "refuse", place / "refuse.c"],
        check=True,
        timeout=60,
    )
    return (str(place / "refuse"),)


@pytest.fixture
def small_disk(tmp_path: Path) -> tuple[Callable[..., CompletedProcess[str]], Path]:
    """Runs shell commands where a folder is a file system of 2 MiB of its own.

    In a mount namespace that ends with the commands: nothing stays mounted.
    """
    place = tmp_path / "small"
    place.mkdir()
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-r", "--mount"]
    mount = f"mount -t tmpfs -o size=2m none {place}"
    trial = subprocess.run([*unshare, "sh", "-c", mount], capture_output=True, timeout=20)
    if trial.returncode != 0:
        pytest.skip("no mount namespace of its own can be made here")

    def run(script: str) -> CompletedProcess[str]:
        return subprocess.run(
            [*unshare, "sh", "-c", f"{mount} && {{ {script}\n}}"],
            capture_output=True,
            text=True,
            timeout=100,
        )

    return run, place


def one_line(text: str) -> str:
    """The only line of a text."""
    (line,) = text.strip().splitlines()
    assert "Traceback" not in text
    return line


def test_no_compiler(refbench: Refbench, tmp_path: Path) -> None:
    if importlib.util.find_spec("ziglang"):
        pytest.skip("a compiler from PyPI is installed")
    bare = {"PATH": str(tmp_path), "CC": None, "REFBENCH_CACHE": str(tmp_path / "cache")}
    done = refbench("run", "-m", "anon", *SMALL, env=bare, cwd=tmp_path)
    assert done.returncode == 3
    line = one_line(done.stderr)
    assert "compiler" in line
    assert "apt install gcc" in line
    assert not list((tmp_path / "reports").iterdir()), "an empty run is no run"
    doctor = refbench("doctor", "--json", env=bare)
    assert doctor.returncode == 1
    findings = {item["what"]: item for item in json.loads(doctor.stdout)["findings"]}
    assert findings["compiler"]["level"] == "warning"
    assert findings["target host"]["level"] == "problem"
    listed = refbench("backends", env=bare)
    assert listed.returncode == 0
    assert "compiler" in listed.stdout


def test_userfaultfd_switched_off(
    refbench: Refbench, without_userfaultfd: tuple[str, ...], tmp_path: Path
) -> None:
    done = refbench(
        *("run", "-m", "uffd", *SMALL, "--runs", "1", "--quiet", "-o", tmp_path / "one"),
        prefix=without_userfaultfd,
    )
    assert done.returncode == 5, done.stderr
    line = one_line(done.stderr)
    assert "unsupported" in line
    assert "userfaultfd" in line
    several = refbench(
        *("run", "-m", "anon,uffd*", *SMALL, "--runs", "1", "--json", "-o", tmp_path / "several"),
        prefix=without_userfaultfd,
    )
    assert several.returncode == 0, several.stderr
    failures = json.loads(several.stdout)["failures"]
    assert len(failures) == 2
    for failure in failures.values():
        assert failure["kind"] == "unsupported"
        assert "userfaultfd" in failure["message"] + failure["remedy"]


def test_a_full_disk_under_the_journal(
    small_disk: tuple[Callable[..., CompletedProcess[str]], Path],
    repository: Path,
    tmp_path: Path,
    measured: Path,
) -> None:
    run, place = small_disk
    ballast = (2 << 20) - (40 << 10)
    done = run(
        f"head -c {ballast} /dev/zero > {place}/ballast\n"
        f"{COMMAND} run -q -m anon {' '.join(SMALL)} --runs 30 -o {place}/run; echo rc=$?\n"
        f"{COMMAND} report -q --json {place}/run > {tmp_path}/first.json\n"
        f"rm {place}/ballast\n"
        f"{COMMAND} run -q --resume {place}/run --json > {tmp_path}/second.json; echo rc=$?"
    )
    assert done.stdout.split() == ["rc=4", "rc=0"], done.stderr
    line = done.stderr.splitlines()[0]
    assert "No space left on device" in line
    assert "runs before are kept" in line
    assert "refbench run --resume" in line
    first = json.loads((tmp_path / "first.json").read_text())
    kept = first["report"]["sections"][0]["blocks"][0]["rows"][0]["runs"]
    second = json.loads((tmp_path / "second.json").read_text())
    assert 0 < kept < 30
    assert second["kept"] == kept
    assert second["measured"] == 30 - kept


def test_a_disk_that_is_full_from_the_start(
    small_disk: tuple[Callable[..., CompletedProcess[str]], Path], measured: Path
) -> None:
    run, place = small_disk
    done = run(
        f"head -c 3000000 /dev/zero > {place}/full 2> /dev/null\n"
        f"{COMMAND} run -q -m anon {' '.join(SMALL)} -o {place}/run; echo rc=$?; ls {place}"
    )
    assert done.stdout.split() == ["rc=4", "full"], done.stderr
    assert "cannot be" in one_line(done.stderr)
    assert "No space left on device" in done.stderr


def test_an_output_directory_that_is_a_file(refbench: Refbench, tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("in the way")
    done = refbench("run", "-m", "anon", *SMALL, cwd=tmp_path)
    assert done.returncode == 4
    assert "output directory" in one_line(done.stderr)


def test_an_output_directory_that_may_not_be_written(
    refbench: Refbench, user_prefix: tuple[str, ...], user_folder: Path, cache: Path
) -> None:
    closed = user_folder / "closed"
    closed.mkdir(mode=0o555)
    environment = {"REFBENCH_CACHE": str(user_folder / "cache"), "HOME": str(user_folder)}
    trial = refbench("--version", prefix=user_prefix, env=environment)
    if trial.returncode != 0:
        pytest.skip("an ordinary user cannot read this installation; `make user` shows it to one")
    done = refbench(
        *("run", "-m", "anon", *SMALL, "-o", closed / "run"), prefix=user_prefix, env=environment
    )
    assert done.returncode == 4
    assert "Permission denied" in one_line(done.stderr)


def test_doctor_looks_at_everything(refbench: Refbench) -> None:
    done = refbench("doctor", "--json")
    found = json.loads(done.stdout)
    whats = {item["what"] for item in found["findings"]}
    assert {
        "compiler",
        "cache",
        "O_DIRECT",
        "plugins",
        "target host",
        "userfaultfd",
        "KSM",
        "THP",
        "max_map_count",
        "overcommit",
        "core_pattern",
        "CPUs",
        "load",
        "governor",
        "memory",
        "swap",
    } <= whats
    assert done.returncode == (1 if found["problem"] else 0)
    assert all(item["detail"] for item in found["findings"])
    assert platform.release() in done.stdout


def test_doctor_names_a_cache_that_cannot_be_written(refbench: Refbench, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = refbench("doctor", env={"REFBENCH_CACHE": str(tmp_path / "file" / "cache")})
    assert done.returncode == 1
    assert "Set REFBENCH_CACHE" in done.stdout
    assert "Traceback" not in done.stderr


def test_an_unexpected_verdict_is_exit_code_1(refbench: Refbench, tmp_path: Path) -> None:
    done = refbench("check", "-m", "anon,memset", "--property", "dontneed", "--json")
    assert done.returncode == 0, done.stderr
    examined = json.loads(done.stdout)["targets"]["host"]["examinations"]
    assert {item["outcome"] for item in examined} == {"as expected"}
    # A plugin's mechanism that promises what memset cannot keep: the pattern after DONTNEED.
    (tmp_path / "boaster.py").write_text(
        "from dataclasses import replace\n"
        "from refbench.hookspecs import hookimpl\n"
        "from refbench.mechanisms import MECHANISMS\n"
        "refbench_api_version = 1\n"
        "@hookimpl\n"
        "def refbench_mechanisms():\n"
        "    return []\n"
        "for m in MECHANISMS:\n"
        "    if m.name == 'memset':\n"
        "        m.expected.pop('dontneed')\n"
    )
    info = tmp_path / "boaster-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: boaster\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[refbench]\nboaster = boaster\n")
    boasted = refbench(
        "check", "-m", "memset", "--property", "dontneed", env={"PYTHONPATH": str(tmp_path)}
    )
    assert boasted.returncode == 1, boasted.stderr
    assert "Not as expected" in boasted.stdout
