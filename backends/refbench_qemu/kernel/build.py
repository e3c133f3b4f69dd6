"""Building a kernel, from its recipe to the directory that the artefact cache keeps."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from refbench.cache import Cache, file_digest
from refbench.errors import BackendError, StorageError
from refbench.vm import kernels
from refbench.vm.kernels import IMAGES, Kernel, Record
from refbench_qemu.kernel import configure, running, tree
from refbench_qemu.kernel.left_out import LEFT_OUT
from refbench_qemu.kernel.recipe import Order, Recipe, module_folders, prepare

_DONE = re.compile(r"^\s+([A-Z][A-Z+]*)\s+(?:\[M\]\s+)?(\S+)$")
# Lines of make for a whole build: minimal counted on Linux 6.12.117 for x86_64, the others guessed.
_LINES = {
    ("minimal", "x86_64"): 1395,
    ("distro", "x86_64"): 3200,
    ("debug", "x86_64"): 1600,
    ("minimal", "arm64"): 1500,
}
_USUAL_LINES = 1500
# Bytes that a build needs for the source and what is made of it.
_ROOM = {"minimal": 2 << 30, "distro": 4 << 30, "debug": 6 << 30}
_TREE = "linux"
_MODULES = "refbench-modules"
# The shares of a build's time at which its parts begin.
_PLACED, _CONFIGURED, _MADE = 0.08, 0.12, 0.98
_ERRORS = re.compile(r"\berror\b|\*\*\*|undefined reference|undefined!", re.IGNORECASE)
_SHOWN = 12


def built(order: Order, cache: Cache) -> Kernel:
    """The kernel of an order, from the artefact cache or built now.

    :raises UsageError: when something that the user named is not there.
    :raises BackendError: when tools are missing, or it cannot be built; the message says where
        the log is.
    :raises StorageError: when the disk is full or the cache cannot be written.
    """
    recipe = prepare(order, cache)
    # What a build needs is removed when the kernel is safe and its lock is free.
    with ExitStack() as later:
        place = cache.get(
            kernels.KIND, recipe.inputs, lambda directory: _build(recipe, cache, directory, later)
        )
    os.utime(place)  # of several with one name, the one last asked for counts
    record = Record.read(place)
    if record is None:
        raise StorageError(
            f"The kernel in {place} has no record that can be read.",
            remedy="Remove that directory and build it again.",
        )
    return record.kernel(place)


@dataclass(slots=True)
class _Made:
    """Counts what make has done."""

    report: Callable[[str, float | None], None]
    expected: int
    begin: float
    end: float
    _lines: int = 0
    _last: str = field(default="")

    def __call__(self, line: str) -> None:
        if match := _DONE.match(line):
            self._lines += 1
            self._last = match[2].rpartition(f"/{_TREE}/")[2]  # objtool says whole paths
        share = min(self._lines / self.expected, 0.99) if self.expected else 0.0
        doing = f"compiling {self._last}" if self._last else "compiling"
        self.report(doing, self.begin + share * (self.end - self.begin))


@dataclass(frozen=True, slots=True)
class _Workshop:
    """A build in progress."""

    recipe: Recipe
    cache: Cache
    tree: Path
    log: Path

    def say(self, what: str, share: float) -> Callable[[str], None]:
        """A listener for what need not be counted."""
        return lambda _: self.cache.progress(what, share)

    def make(self, *arguments: str, told: Callable[[str], None]) -> None:
        """Run make in the tree.

        :raises BackendError: when it fails, with its last lines and the place of the log.
        """
        jobs = len(os.sched_getaffinity(0))
        argv = ["make", f"-j{jobs}", *self.recipe.tools.variables()]
        argv += [f"LOCALVERSION=-{self.recipe.name}", *arguments]
        environment = self.recipe.tools.environment(self.cache.root, self.tree.parent)
        try:
            running.run(argv, self.tree, environment, self.log, told)
        except running.Ended as ended:
            if any("No space left on device" in line for line in ended.lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.tree)) from None
            raise BackendError(
                f"The kernel {self.recipe.name} cannot be built:\n{_telling(ended.lines)}\n",
                remedy=f"The whole log is in {self.log}.",
            ) from None


def _telling(lines: Sequence[str]) -> str:
    """The last lines of a log, from the first error on."""
    first = next((i for i, line in enumerate(lines) if _ERRORS.search(line)), None)
    chosen = lines[-_SHOWN:] if first is None else lines[first : first + _SHOWN]
    return "\n".join(chosen)


def _build(recipe: Recipe, cache: Cache, directory: Path, later: ExitStack) -> None:
    """Fill ``directory``: image, modules, configuration, symbols and the record."""
    _see_room(recipe, cache)
    logs = cache.root / "logs"
    logs.mkdir(exist_ok=True)
    log = logs / f"kernel-{recipe.name}-{recipe.order.arch}.log"
    log.write_bytes(b"")
    folder = later.enter_context(cache.temporary(f"{kernels.KIND}-{recipe.name}", large=True))
    shop = _Workshop(recipe, cache, folder / _TREE, log)
    cache.progress(f"unpacking {recipe.source.label}", 0.0)
    ours = not recipe.source.own and set(recipe.order.patches) <= tree.OURS
    tree.place(recipe.source, shop.tree, LEFT_OUT if ours else ())
    tree.apply(recipe.patches, shop.tree)
    cache.progress("configuring", _PLACED)
    _configure(shop)
    image = IMAGES[recipe.order.arch]
    expected = _LINES.get((recipe.order.config, recipe.order.arch), _USUAL_LINES)
    shop.make(image, "modules", told=_Made(cache.progress, expected, _CONFIGURED, _MADE))
    modules = _modules(shop)
    cache.progress("keeping what was built", _MADE)
    _keep(shop, modules, directory)


def _see_room(recipe: Recipe, cache: Cache) -> None:
    wanted = _ROOM[recipe.order.config]
    free = shutil.disk_usage(cache.root).free
    if free < wanted:
        raise StorageError(
            f"Building the kernel {recipe.name} needs {wanted >> 20} MiB in {cache.root}, for a "
            f"while; {free >> 20} MiB are free.",
            remedy="Free some space, or set REFBENCH_CACHE to a directory that has it.",
        )


def _configure(shop: _Workshop) -> None:
    told = shop.say("configuring", _PLACED)
    if (shop.tree / ".config").exists() or (shop.tree / "include" / "config").is_dir():
        shop.make("mrproper", told=told)
    asked = shop.tree.parent / "asked.config"
    asked.write_text(configure.merged(shop.recipe.wishes), encoding="ascii")
    shop.make(f"KCONFIG_ALLCONFIG={asked}", "allnoconfig", told=told)
    unknown = configure.check(shop.tree, shop.recipe.wishes)
    if unknown and not shop.recipe.source.own:
        raise BackendError(
            f"{shop.recipe.source.label} does not know {', '.join(unknown)}.",
            remedy="The configuration is for another version.",
        )
    if unknown:
        shop.cache.progress(f"this source does not know {', '.join(unknown)}", _PLACED)


def _modules(shop: _Workshop) -> tuple[Path, ...]:
    """The modules that come with refbench. A tree of the user's own need not take them."""
    built_: list[Path] = []
    for folder in module_folders():
        copy = tree.adopt(folder, shop.tree, f"{_MODULES}-{folder.name}")
        try:
            shop.make(
                f"M={copy.name}",
                "modules",
                told=shop.say("compiling modules", _MADE),
            )
        except BackendError:
            if not shop.recipe.source.own:
                raise
            shop.cache.progress(f"the module {folder.name} does not compile there", _MADE)
            continue
        built_ += sorted(copy.rglob("*.ko"))
    return tuple(built_)


def _keep(shop: _Workshop, modules: Sequence[Path], directory: Path) -> None:
    recipe, source = shop.recipe, shop.tree
    arch, prefix = recipe.order.arch, recipe.tools.prefix
    image = directory / IMAGES[arch]
    shutil.copyfile(source / "arch" / recipe.tools.folder / "boot" / IMAGES[arch], image)
    shutil.copyfile(source / ".config", directory / "config")
    shutil.copyfile(source / "System.map", directory / "System.map")
    (directory / "modules").mkdir()
    for path in modules:
        kept = directory / "modules" / path.name
        _call([f"{prefix}strip", "--strip-debug", "-o", str(kept), str(path)])
    release = (source / "include" / "config" / "kernel.release").read_text().strip()
    Record(
        name=recipe.name,
        version=release,
        arch=arch,
        config=recipe.order.config,
        patches=tuple(item.word for item in recipe.patches),
        syscalls=kernels.syscall_numbers(source, arch),
        digest=_digest(image, directory / "modules"),
        source=recipe.source.told,
        compiler=recipe.tools.compiler,
        build_id=_build_id(source / "vmlinux", f"{prefix}readelf"),
        recipe=recipe.own,
    ).write(directory)


def _digest(image: Path, modules: Path) -> str:
    total = hashlib.sha256(file_digest(image))
    for path in sorted(modules.iterdir()):
        total.update(path.name.encode() + b"\0" + file_digest(path))
    return total.hexdigest()


def _build_id(vmlinux: Path, readelf: str) -> str:
    match = re.search(r"Build ID: ([0-9a-f]+)", _call([readelf, "-n", str(vmlinux)]))
    return match[1] if match else ""


def _call(argv: Sequence[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise BackendError(
            f"{argv[0]} failed: {done.stderr.strip()}", remedy="Install binutils again."
        )
    return done.stdout
