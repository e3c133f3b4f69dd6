"""A memory cgroup of the session's own, version 1 or 2, that agents are charged to.

Kernel documentation: admin-guide/cgroup-v2.rst and admin-guide/cgroup-v1/memory.rst.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from refbench.housekeeping import remove_cgroup
from refbench.processes import Identity, stat_fields

_DELEGATE = (
    "Run refbench as root, or in a cgroup of your own: "
    "systemd-run --user --scope -p Delegate=yes refbench ..."
)


class NoCgroupError(Exception):
    """There is no memory cgroup to be had; ``reason`` and ``remedy`` say it to the user."""

    def __init__(self, reason: str, remedy: str = _DELEGATE) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where this process is in the tree that the memory controller is attached to."""

    version: str
    """``v1`` or ``v2``."""
    mount: Path
    directory: Path
    """The cgroup of this process."""


@dataclass(frozen=True, slots=True)
class MemoryCgroup:
    """The cgroup that was made. ``leaf`` is where our own processes had to move, if at all."""

    version: str
    directory: Path
    leaf: Path | None = None

    @property
    def oom_kills(self) -> int:
        """How many processes of it the kernel has killed for want of memory."""
        name = "memory.events" if self.version == "v2" else "memory.oom_control"
        return _table(self.directory / name).get("oom_kill", 0)

    def remove(self) -> None:
        """Kill what is in it, remove it, and move back out of the leaf."""
        remove_cgroup(self.directory)
        if self.leaf is None:
            return
        parent = self.leaf.parent
        try:
            (parent / "cgroup.subtree_control").write_text("-memory")
            _move(self.leaf, parent)
            self.leaf.rmdir()
        except OSError:
            # Another session of the same scope still needs it; the scope ends with its command.
            return


def find(proc: Path = Path("/proc/self")) -> Hierarchy:
    """The memory hierarchy of this process.

    :raises NoCgroupError: when the kernel has none.
    """
    own = dict(_memberships((proc / "cgroup").read_text()))
    mounts = list(_mounts((proc / "mountinfo").read_text()))
    for version, key in (("v1", "memory"), ("v2", "")):
        for found, root, mount in mounts:
            if found == version and key in own:
                directory = mount / os.path.relpath(own[key], root)
                if version == "v1" or "memory" in _words(directory / "cgroup.controllers"):
                    return Hierarchy(version, mount, directory)
    raise NoCgroupError(
        "The memory controller is not enabled for the cgroup of this process.",
        "Boot with the memory controller (cgroup_enable=memory), or run: "
        "systemd-run --scope -p Delegate=yes -p MemoryAccounting=yes refbench ...",
    )


def make(name: str, hierarchy: Hierarchy, about_to: Callable[[Path], None]) -> MemoryCgroup:
    """A cgroup called ``name`` with memory accounting; ``about_to`` is told before it is made.

    :raises NoCgroupError: when it may not or cannot be made.
    """
    parent, leaf = hierarchy.directory, None
    if hierarchy.version == "v2":
        parent, leaf = _parent_v2(hierarchy, name)
    _tidy(parent, name)
    directory = parent / name
    about_to(directory)
    try:
        directory.mkdir()
        made = MemoryCgroup(hierarchy.version, directory, leaf)
        if not os.access(directory / "cgroup.procs", os.W_OK):
            made.remove()
            raise NoCgroupError(f"Processes may not be moved to the cgroup {directory}.")
    except OSError as error:
        raise NoCgroupError(f"No cgroup can be made in {parent}: {error.strerror}.") from None
    return made


def _tidy(parent: Path, name: str) -> None:
    """Remove the empty cgroups of dead sessions beside ours, whatever cache these had.

    ``name`` is a prefix, ``-``, and the identity of the session's process.
    """
    prefix = name.partition("-")[0] + "-"
    for directory in parent.glob(f"{prefix}*"):
        owner = Identity.parse(directory.name.removeprefix(prefix))
        if owner is not None and not owner.alive:
            # One that still has processes in it is not ours to empty.
            with contextlib.suppress(OSError):
                directory.rmdir()


def limit_left(hierarchy: Hierarchy) -> int | None:
    """Bytes that the tightest limit on the way to the root leaves; ``None`` without a limit."""
    limit, usage = (
        ("memory.max", "memory.current")
        if hierarchy.version == "v2"
        else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    )
    left = []
    directory = hierarchy.directory
    while directory.is_relative_to(hierarchy.mount):
        most, used = _number(directory / limit), _number(directory / usage)
        # Version 1 spells "no limit" as the largest multiple of a page.
        if most is not None and used is not None and most < 1 << 62:
            left.append(max(most - used, 0))
        directory = directory.parent
    return min(left) if left else None


def _parent_v2(hierarchy: Hierarchy, name: str) -> tuple[Path, Path | None]:
    """Where a child with memory accounting can be made.

    A cgroup with processes in it cannot hand controllers to children. So the child becomes our
    sibling where the parent's cgroup allows it; else, in a cgroup that was delegated to us and
    holds our processes alone, these move to a leaf beside the child.
    """
    own = hierarchy.directory
    if own == hierarchy.mount:
        _enable(own)
        return own, None
    if own.parent.is_relative_to(hierarchy.mount) and os.access(own.parent, os.W_OK):
        try:
            _enable(own.parent)
        except NoCgroupError:
            if not os.access(own / "cgroup.subtree_control", os.W_OK):
                raise
        else:
            return own.parent, None
    if not os.access(own / "cgroup.subtree_control", os.W_OK):
        raise NoCgroupError(f"The cgroup {own} is not writable.")
    if not _ours_alone(own):
        raise NoCgroupError(f"The cgroup {own} holds processes that refbench did not start.")
    # Not told to the state: when this command is killed, its ancestors live on in the leaf.
    leaf = own / f"{name}-main"
    try:
        leaf.mkdir()
        _move(own, leaf)
    except OSError as error:
        raise NoCgroupError(f"The cgroup {leaf} cannot be used: {error.strerror}.") from None
    _enable(own)
    return own, leaf


def _enable(directory: Path) -> None:
    control = directory / "cgroup.subtree_control"
    if "memory" in _words(control):
        return
    try:
        control.write_text("+memory")
    except OSError as error:
        raise NoCgroupError(
            f"Memory accounting cannot be switched on below {directory}: {error.strerror}."
        ) from None


def _ours_alone(directory: Path) -> bool:
    """Whether a cgroup holds nothing but this process and its ancestors."""
    mine = set()
    pid = os.getpid()
    while pid > 1 and pid not in mine:
        mine.add(pid)
        pid = _parent_of(pid)
    return {int(word) for word in _words(directory / "cgroup.procs")} <= mine


def _parent_of(pid: int) -> int:
    fields = stat_fields(pid)
    return int(fields[1]) if fields else 0


def _move(source: Path, target: Path) -> None:
    for pid in _words(source / "cgroup.procs"):
        (target / "cgroup.procs").write_text(pid)


def _memberships(text: str) -> Iterator[tuple[str, str]]:
    """(controller, path) of /proc/self/cgroup; the controller of version 2 is empty."""
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, path


def _mounts(text: str) -> Iterator[tuple[str, str, Path]]:
    """(version, root, mount point) of the cgroup mounts in /proc/self/mountinfo (proc(5))."""
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        root, mount = (part.replace("\\040", " ") for part in left.split()[3:5])
        if kind == "cgroup2":
            yield "v2", root, Path(mount)
        elif kind == "cgroup" and "memory" in options.split(","):
            yield "v1", root, Path(mount)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    words = _words(path)
    return int(words[0]) if words and words[0].isdecimal() else None


def _table(path: Path) -> dict[str, int]:
    words = _words(path)
    return {k: int(v) for k, v in zip(words[::2], words[1::2], strict=False) if v.isdecimal()}
