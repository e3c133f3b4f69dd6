"""The configuration of a kernel: fragments on top of nothing, and whether they took.

``make allnoconfig`` with KCONFIG_ALLCONFIG turns everything off that no fragment asks for
(Documentation/kbuild/kconfig.rst of the kernel). kconfig drops what it cannot have without a
word; here that is an error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from refbench.errors import BackendError, UsageError
from refbench_qemu.kernel.places import CONFIGS

BASE = "minimal"
NAMES = (BASE, "distro", "debug")
_SET = re.compile(r"^(CONFIG_\w+)=(.+)$")
_UNSET = re.compile(r"^# (CONFIG_\w+) is not set$")
_NEEDS_OBJTOOL = ("CONFIG_UNWINDER_ORC", "CONFIG_MITIGATION_RETPOLINE", "CONFIG_JUMP_LABEL")


@dataclass(frozen=True, slots=True)
class Wish:
    """The value that a fragment asks for."""

    value: str
    file: str


Wishes = Mapping[str, Wish]


def fragments(config: str, arch: str) -> tuple[Path, ...]:
    """The fragments of a configuration in the order in which they are merged.

    :raises UsageError: when there is no configuration of that name.
    """
    if config not in NAMES:
        raise UsageError(
            f"There is no kernel configuration {config!r}.", remedy=f"One of {', '.join(NAMES)}."
        )
    names = [BASE] if config == BASE else [BASE, config]
    paths = [CONFIGS / f"{name}{end}" for name in names for end in (".config", f".{arch}.config")]
    return tuple(path for path in paths if path.is_file())


def wishes(paths: Sequence[Path]) -> dict[str, Wish]:
    """What fragments ask for, later ones over earlier ones.

    :raises BackendError: for a line that is neither an option nor a comment.
    """
    found = {}
    for path in paths:
        for number, text in enumerate(path.read_text(encoding="ascii").splitlines(), 1):
            line = text.strip()
            if match := _UNSET.match(line):
                found[match[1]] = Wish("n", path.name)
            elif line and not line.startswith("#"):
                match = _SET.match(line)
                if match is None:
                    raise BackendError(
                        f"Line {number} of {path.name} is no kernel option: {line!r}.",
                        remedy="Write CONFIG_NAME=value.",
                    )
                found[match[1]] = Wish(match[2], path.name)
    return found


def wanted(config: str, arch: str) -> dict[str, Wish]:
    """Everything that is asked of a kernel. Its name is not among it: every file is compiled
    with the configuration, and kernels that differ in their names alone share their objects."""
    return wishes(fragments(config, arch))


def needs_objtool(asked: Wishes) -> bool:
    """Whether the build compiles objtool, which wants libelf."""
    return any(name in asked and asked[name].value == "y" for name in _NEEDS_OBJTOOL)


def merged(asked: Wishes) -> str:
    """The file for KCONFIG_ALLCONFIG."""
    lines = [
        f"# {name} is not set" if wish.value == "n" else f"{name}={wish.value}"
        for name, wish in asked.items()
    ]
    return "\n".join(lines) + "\n"


def check(tree: Path, asked: Wishes) -> tuple[str, ...]:
    """Compare a tree's ``.config`` with what was asked for; options that it does not know.

    An option is only unknown when no Kconfig file of the tree defines it, as in another version.

    :raises BackendError: naming every option that the tree knows and did not take.
    """
    lines = (tree / ".config").read_text(encoding="utf-8").splitlines()
    got = {match[1]: match[2] for line in lines if (match := _SET.match(line))}
    differing = [name for name, wish in asked.items() if got.get(name, "n") != wish.value]
    if not differing:
        return ()
    known = _defined(tree, differing)
    refused = [name for name in differing if name in known]
    if refused:
        told = "; ".join(
            f"{name}={asked[name].value} ({asked[name].file}) became {got.get(name, 'n')}"
            for name in refused
        )
        raise BackendError(
            f"The kernel's configuration did not take {told}.",
            remedy="Something that it depends on is not there, or something selects it: see its "
            "entry in the tree's Kconfig files.",
        )
    return tuple(name for name in differing if name not in known)


def _defined(tree: Path, names: Sequence[str]) -> frozenset[str]:
    wanted_names = {name.removeprefix("CONFIG_") for name in names}
    entry = re.compile(r"^\s*(?:menu)?config\s+(\w+)", re.MULTILINE)
    found: set[str] = set()
    for folder, _, files in os.walk(tree):
        for file in files:
            if file.startswith("Kconfig"):
                text = (Path(folder) / file).read_text(encoding="utf-8", errors="replace")
                found |= wanted_names & set(entry.findall(text))
    return frozenset(f"CONFIG_{name}" for name in found)
