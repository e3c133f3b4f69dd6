"""The tree that a kernel is built in: a copy of the source, with patches applied."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from refbench.cache import file_digest
from refbench.errors import BackendError, UsageError
from refbench.vm.kernels import Patch
from refbench_qemu.kernel import listing
from refbench_qemu.kernel.places import PATCHES
from refbench_qemu.kernel.source import Source

OURS = frozenset({"default", "v1", "none"})
"""The words for patches that come with refbench."""
_FILE = re.compile(r"^(?:checking|patching) file '?([^']+?)'?$")
_HUNK = re.compile(r"^Hunk #(\d+) FAILED at (\d+)")
_NO_FILE = re.compile(r"^can't find file to patch at input line (\d+)")
_WANTED = re.compile(r"^\|\+\+\+ (?:b/)?(\S+)")
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class PatchFile:
    """A patch to apply."""

    path: Path
    digest: str

    @property
    def word(self) -> Patch:
        """What a record says of it."""
        return Patch(self.path.name, self.digest)


def patch_files(choice: str, series: str) -> tuple[PatchFile, ...]:
    """The patches that a choice means for a tree of ``series``, in order.

    ``choice`` is ``default``, ``v1`` (the default ones and v1 on top), ``none``, or a folder.

    :raises UsageError: when there are none.
    """
    match choice:
        case "none":
            return ()
        case "default":
            return _ours(series, series)
        case "v1":
            return (*_ours(series, series), *_ours(f"{series}-v1", series))
    folder = Path(choice).expanduser()
    if not folder.is_dir():
        raise UsageError(
            f"There is no folder {choice} with patches.",
            remedy="--patches takes a folder, `none`, `default` or `v1`.",
        )
    return _of(folder)


def _ours(name: str, series: str) -> tuple[PatchFile, ...]:
    if not (PATCHES / name).is_dir():
        there = sorted(path.name for path in PATCHES.glob("*") if "-" not in path.name)
        known = ", ".join(there) or "nothing yet"
        raise UsageError(
            f"refbench has patches for Linux {known}; this source is Linux {series}.",
            remedy="Say --patches none, or --patches DIR with patches for that tree.",
        )
    return _of(PATCHES / name)


def _of(folder: Path) -> tuple[PatchFile, ...]:
    found = sorted(folder.glob("*.patch"))
    if not found:
        raise UsageError(
            f"There is no *.patch in {folder}.", remedy="Say --patches none for a plain kernel."
        )
    return tuple(PatchFile(path, file_digest(path).hex()) for path in found)


def place(source: Source, tree: Path, leave_out: Sequence[str]) -> None:
    """Put a copy of the source into the new folder ``tree``; the source is only read.

    ``leave_out`` are patterns of tar for what a build does not need.

    :raises UsageError: when it cannot be unpacked.
    :raises OSError: when the disk is full.
    """
    tree.mkdir()
    if source.path.is_dir():
        _copy(source.path, tree)
        return
    argv = ["tar", "--strip-components=1", "--no-same-owner", "-C", str(tree), "-xf"]
    argv += [str(source.path), *(f"--exclude={pattern}" for pattern in leave_out)]
    environment = {**os.environ, "LC_ALL": "C", "XZ_OPT": "-T0"}
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
    _check(done.returncode, done.stderr, source.path)


def _copy(origin: Path, tree: Path) -> None:
    names = b"\0".join(os.fsencode(name) for name in listing.files(origin))
    listed = tree.with_suffix(".files")
    listed.write_bytes(names)
    pack = ["tar", "-C", str(origin), "--null", "--no-recursion", "-T", str(listed), "-cf", "-"]
    unpack = ["tar", "-C", str(tree), "--no-same-owner", "-xf", "-"]
    environment = {**os.environ, "LC_ALL": "C"}
    with subprocess.Popen(
        pack, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as packing:
        done = subprocess.run(
            unpack,
            stdin=packing.stdout,
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        assert packing.stdout is not None
        assert packing.stderr is not None
        packing.stdout.close()
        said = packing.stderr.read().decode(errors="replace")
    listed.unlink()
    _check(done.returncode, done.stderr, origin)
    _check(packing.returncode, said, origin)


def _check(status: int, said: str, path: Path) -> None:
    if not status:
        return
    if "No space left" in said:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    lines = "\n".join(said.strip().splitlines()[:_SHOWN])
    raise UsageError(
        f"The source {path} cannot be copied:\n{lines}\n", remedy="Name another with --source."
    )


def apply(patches: Sequence[PatchFile], tree: Path) -> None:
    """Apply patches to a tree, each exactly as it is: offsets are fine, fuzz is not.

    :raises BackendError: naming the patch, the file and the hunk that does not fit.
    """
    for item in patches:
        argv = ["patch", "-p1", "-N", "--fuzz=0", "--no-backup-if-mismatch", "-r", "-"]
        done = subprocess.run(
            [*argv, "-i", str(item.path.resolve())],
            cwd=tree,
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            if "No space left" in done.stdout + done.stderr:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tree))
            raise BackendError(
                f"The patch {item.path.name} does not apply: {_misfit(done.stdout + done.stderr)}.",
                remedy="Use the source that it was written for, or patches for this one: "
                "--patches DIR.",
            )


def _misfit(said: str) -> str:
    """Which hunks of which files did not fit, out of what patch(1) says."""
    file = ""
    found = []
    for line in said.splitlines():
        if match := _FILE.match(line) or _WANTED.match(line):
            file = match[1]
        elif match := _HUNK.match(line):
            found.append(f"{file}, hunk {match[1]} (at line {match[2]})")
        elif _NO_FILE.match(line):
            found.append("a file that it changes is not there")
        elif line.startswith("Reversed (or previously applied)"):
            found.append(f"{file} has it already")
    if file and found == ["a file that it changes is not there"]:
        found = [f"{file} is not there"]
    return "; ".join(found) or " ".join(said.split())[:300]


def adopt(folder: Path, tree: Path, name: str) -> Path:
    """Copy the sources of modules into a tree, so that no path of this machine is compiled in."""
    copy = tree / name
    for path in listing.of_folder(folder):
        target = copy / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return copy
