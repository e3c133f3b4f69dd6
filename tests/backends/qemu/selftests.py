"""The patched tree's own selftests, built by its Makefiles from the source of the kernels."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from tests.kernels import ORDERS, home

from refbench.cache import Cache
from refbench_qemu.kernel import tree
from refbench_qemu.kernel.recipe import prepare

NAMES = ("refpage", "refpage_kernel", "map_refpage")
_FORMAT = "1"
# What `make headers` and these selftests read: a fraction of the tree, unpacked in seconds.
_NEEDED = (
    *("Makefile", "scripts", "usr/include", "arch/x86/Makefile*", "arch/x86/include"),
    *("arch/x86/entry/syscalls", "arch/x86/tools", "include/uapi", "include/asm-generic/Kbuild"),
    *("mm/gup_test.h", "tools/include", "tools/testing/selftests/lib.mk"),
    *("tools/testing/selftests/*.h", "tools/testing/selftests/mm", "tools/testing/selftests/x86"),
)
_CHANGED = re.compile(r"^--- a/(\S+)$", re.MULTILINE)
_NEW = re.compile(r"^--- /dev/null\n\+\+\+ b/(\S+)$", re.MULTILINE)


def programs() -> Path:
    """The folder with the static programs of :data:`NAMES`, from the user's cache or built now."""
    cache = Cache(home())
    recipe = prepare(ORDERS["patched"], cache)
    inputs = [_FORMAT, recipe.source.told, recipe.tools.compiler, recipe.own]

    def build(directory: Path) -> None:
        with cache.temporary("selftests", large=True) as folder:
            texts = [item.path.read_text() for item in recipe.patches]
            made = {name for text in texts for name in _NEW.findall(text)}
            changed = {name for text in texts for name in _CHANGED.findall(text)} - made
            # tar takes a name that two patterns match for one that the second does not find.
            further = sorted(name for name in changed if not _is_needed(name))
            _unpack(recipe.source.path, folder, (*_NEEDED, *further))
            tree.apply(recipe.patches, folder)
            _run(["make", "-j2", "ARCH=x86_64", "headers"], folder)
            tests = [str(directory / name) for name in NAMES]
            make = ["make", "-j2", "ARCH=x86_64", f"OUTPUT={directory}", "USERLDFLAGS=-static"]
            _run([*make, *tests], folder / "tools" / "testing" / "selftests" / "mm")

    return cache.get("selftests", inputs, build)


def _unpack(tarball: Path, folder: Path, names: Sequence[str]) -> None:
    argv = ["tar", "--strip-components=1", "--no-same-owner", "-C", str(folder), "-xf"]
    argv += [str(tarball), "--wildcards", "--no-wildcards-match-slash"]
    _run([*argv, *(f"*/{name}" for name in names)], folder)


def _is_needed(name: str) -> bool:
    return any(fnmatch(name, item) or fnmatch(name, f"{item}/*") for item in _NEEDED)


def _run(argv: Sequence[str], folder: Path) -> None:
    # Not all of it: a make that runs these tests would hand its own settings on.
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "XZ_OPT": "-T0"}
    done = subprocess.run(
        argv, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
