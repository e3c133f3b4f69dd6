"""Everything that a kernel is made of: what decides where it lies in the artefact cache."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from refbench.cache import Cache, Material, digest
from refbench.errors import UsageError
from refbench.vm import kernels
from refbench.vm.kernels import Kernel
from refbench_qemu.kernel import configure, listing
from refbench_qemu.kernel.places import MODULES
from refbench_qemu.kernel.source import Source, debian_source, own_source
from refbench_qemu.kernel.toolchain import Toolchain, toolchain
from refbench_qemu.kernel.tree import PatchFile, patch_files

FORMAT = "3"
"""Of what a build keeps and how it works; another number builds everything anew."""
_PLAIN = re.compile(r"[^a-z0-9]+")
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,39}")


@dataclass(frozen=True, slots=True)
class Order:
    """What the user asked for."""

    arch: str = "x86_64"
    config: str = configure.BASE
    source: str = ""
    """Empty for Debian's, else a tree or a tarball."""
    patches: tuple[str, ...] = ("default",)
    name: str = ""
    """Empty for the usual one."""
    renew: bool = False
    """Ask apt for the newest source, also when there is one."""


KNOWN = tuple(
    Order(config=config, patches=(choice,))
    for choice in ("default", "none", "v1")
    for config in configure.NAMES
)
"""What makes the kernels that have names of refbench's own."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """All inputs of one kernel."""

    name: str
    order: Order
    source: Source
    patches: tuple[PatchFile, ...]
    wishes: configure.Wishes
    tools: Toolchain

    @property
    def inputs(self) -> tuple[Material, ...]:
        """What the artefact cache finds it by."""
        return (self.name, self.source.told, self.tools.compiler, self.tools.linker, self.own)

    @property
    def own(self) -> str:
        """The digest of what refbench itself puts into it."""
        return own_digest(self.order.arch, self.patches, self.wishes)


def own_digest(arch: str, patches: Sequence[PatchFile], wishes: configure.Wishes) -> str:
    """SHA-256 of patches, configuration, modules and of how things are built."""
    modules = [path for folder in module_folders() for path in listing.of_folder(folder)]
    changes = [item.path for item in patches]
    return digest([FORMAT, arch, *changes, configure.merged(wishes), *modules])


def is_current(kernel: Kernel) -> bool:
    """Whether a kernel that has one of refbench's own names is what would be built now, but for
    the source and the compiler; always true of other kernels."""
    order = next((order for order in KNOWN if usual_name(order) == kernel.name), None)
    if order is None:
        return True
    series = ".".join(kernel.version.split(".")[:2])
    try:
        patches = [item for choice in order.patches for item in patch_files(choice, series)]
    except UsageError:
        return False  # of a series that refbench has patches for no more
    wishes = configure.wanted(order.config, kernel.arch)
    return kernel.recipe == own_digest(kernel.arch, patches, wishes)


def prepare(order: Order, cache: Cache) -> Recipe:
    """Find everything that an order needs; Debian's source is fetched when it is not there.

    :raises UsageError: when something that the user named is not there.
    :raises BackendError: when tools are missing, or the source cannot be had.
    """
    name = order.name or usual_name(order)
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a kernel's name.",
            remedy="Up to 40 small letters, digits, dots and hyphens.",
        )
    wishes = configure.wanted(order.config, order.arch)
    tools = toolchain(order.arch, libelf=configure.needs_objtool(wishes))
    if order.source:
        source = own_source(Path(order.source), cache)
    else:
        source = debian_source(cache, renew=order.renew)
    patches = tuple(item for choice in order.patches for item in patch_files(choice, source.series))
    return Recipe(name, order, source, patches, wishes, tools)


def usual_name(order: Order) -> str:
    """``patched``, ``stock-debug``, ``linux`` (the name of the user's tree), ``linux-patched``."""
    words = []
    if order.source:
        words.append(_plain(Path(order.source).expanduser().resolve().name))
    plain = order.patches == ("none",)
    if not (plain and order.source):
        words += [_PATCHED.get(choice, _plain(Path(choice).name)) for choice in order.patches]
    if order.config != configure.BASE:
        words.append(order.config)
    return "-".join(words)[:40].rstrip("-.")


_PATCHED = {"default": kernels.DEFAULT, "none": "stock", "v1": "v1"}


def _plain(text: str) -> str:
    return _PLAIN.sub("-", text.lower().partition(".tar")[0]).strip("-") or "linux"


def module_folders() -> tuple[Path, ...]:
    """The folders of modules that are built with every kernel."""
    return tuple(sorted(path.parent for path in MODULES.glob("*/Kbuild")))
