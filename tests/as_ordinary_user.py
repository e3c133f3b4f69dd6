"""Repeat, as an ordinary user, the part of the suite that looks different to one.

For a run as root only: `make test` calls it before the whole suite. The user is number 65534
without a capability. Arguments go to pytest and take the place of the chosen part. An
interpreter or a clone in a home that is closed to others (/root) is made visible in a mount
namespace that ends with the tests; nothing outside of it changes.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import platformdirs

ROOT = Path(__file__).resolve().parent.parent
USER = 65534
# What depends on rights: the host, the mechanisms, the properties, the commands, the caches.
# The model is the same for everybody; what it reads off a machine is not.
SIMULATOR = (
    "test_backend.py",
    "test_machine.py",
    "test_saved.py",
    "differential/test_differential.py",
)
# A guest is the same for everybody; starting, watching and ending it is not.
VM = ("test_accel.py", "test_machine.py", "test_qmp.py")
QEMU = ("test_backend.py", "test_channel.py", "test_kernel_source.py", "test_session.py")
PART = (
    "tests/backends/host",
    *(f"tests/backends/simulator/{name}" for name in SIMULATOR),
    "tests/native",
    "tests/semantics",
    "tests/cli",
    "tests/test_cache.py",
    *(f"tests/vm/{name}" for name in VM),
    *(f"tests/backends/qemu/{name}" for name in QEMU),
)
SETPRIV = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--inh-caps=-all"]
SETPRIV += ["--bounding-set=-all", "--no-new-privs"]


def say(text: str) -> None:
    """One line about what this script itself does."""
    print(f"as_ordinary_user: {text}", flush=True)  # noqa: T201  # it talks to a terminal


def closed_folder(path: Path) -> Path | None:
    """The topmost folder above ``path`` that others may not enter."""
    for folder in reversed(path.parents):
        if not folder.stat().st_mode & 0o001:
            return folder
    return None


def uncover(paths: Iterable[Path]) -> str:
    """Shell commands that show ``paths`` to everybody, for a private mount namespace."""
    hidden: dict[Path, list[Path]] = {}
    for path in sorted(set(paths)):
        folder = closed_folder(path)
        if folder is not None:
            hidden.setdefault(folder, []).append(path)
    lines = ["set -e"]
    for number, (folder, inside) in enumerate(hidden.items()):
        stage = f'"$1"/{number}'
        lines += [f"mkdir -p {stage}", f"mount -t tmpfs -o mode=755 none {stage}"]
        for path in inside:
            there = f"{stage}/{shlex.quote(str(path.relative_to(folder)))}"
            lines += [f"mkdir -p {there}", f"mount --rbind {shlex.quote(str(path))} {there}"]
        lines += [f"mount --rbind {stage} {shlex.quote(str(folder))}"]
    return "\n".join([*lines, "shift", 'exec "$@"'])


def lend_kernels(home: Path) -> None:
    """Copies of root's own kernels: building them again would take minutes a kernel."""
    there = Path(platformdirs.user_cache_dir("refbench")) / "kernel"
    if there.is_dir():
        shutil.copytree(there, home / ".cache" / "refbench" / "kernel")


def main() -> int:
    """Run the tests; the return code is pytest's."""
    if os.geteuid() != 0:
        say("nothing to do: the whole suite runs as an ordinary user already")
        return 0
    needed = [ROOT, Path(sys.prefix), Path(sys.base_prefix)]
    with tempfile.TemporaryDirectory(prefix="refbench-user-") as name:
        home, stage = Path(name, "home"), Path(name, "stage")
        Path(name).chmod(0o755)
        stage.mkdir()
        home.mkdir()
        lend_kernels(home)
        for place in (home, *home.rglob("*")):
            os.chown(place, USER, USER)
        prefix: list[str] = []
        if any(closed_folder(path) for path in needed):
            prefix = ["unshare", "--mount", "sh", "-c", uncover(needed), "sh", str(stage)]
        environment = {
            "CI": os.environ.get("CI", ""),
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "PYTHONDONTWRITEBYTECODE": "1",
            "REFBENCH_ACCEL": os.environ.get("REFBENCH_ACCEL", "tcg"),
            "TMPDIR": str(home),
        }
        command = [*prefix, *SETPRIV, sys.executable]
        try:
            trial = subprocess.run(
                [*command, "-c", "import refbench, pytest"],
                env=environment,
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError as error:
            say(f"SKIPPED: {error.filename} (util-linux) is not installed")
            return 0
        if trial.returncode != 0:
            reason = (trial.stderr.strip() or "no message").splitlines()[-1]
            say(f"SKIPPED: user {USER} cannot run {sys.executable}: {reason}")
            return 0
        say(f"the tests that follow run as user {USER}")
        options = ["-p", "no:cacheprovider", *(sys.argv[1:] or PART)]
        return subprocess.run(
            [*command, "-m", "pytest", *options],
            env=environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            check=False,
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
