"""The library, where it comes from, and the program of ours that renders with it."""

from __future__ import annotations

import importlib.util
import subprocess
from dataclasses import dataclass
from pathlib import Path

from refbench.agent import DYNAMIC, NATIVE, build, host_arch
from refbench.cache import Cache
from refbench.errors import Unsupported, UsageError
from refbench.linking import read_object

INSTALL = "pip install 'refbench[pdfium]'"
ARCHITECTURES = ("x86_64", "arm64")
SECONDS = 120.0
"""The longest that opening a document may take."""
_LIBRARY = "libpdfium.so"
_PACKAGE = "pypdfium2_raw"
_CANNOT_SAY = (13, 15)
"""Exit codes of the renderer that say nothing of the document (``native/pdfium/report.h``)."""


@dataclass(frozen=True, slots=True)
class Renderer:
    """The program and the library that it opens, both for ``arch``."""

    program: Path
    library: Path
    arch: str

    def pages(self, document: Path, pages: str) -> int | None:
        """How many pages ``document`` has; ``None`` when this machine cannot run the renderer.

        ``pages``: the range that will be drawn, ``FIRST`` or ``FIRST-LAST`` from 0.

        :raises UsageError: when the document is broken or encrypted, or lacks one of them.
        """
        if self.arch != host_arch():
            return None
        argv = [str(self.program), "--library", str(self.library), "--pages", pages]
        done = subprocess.run(
            [*argv, "--check", str(document)],
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )
        if done.returncode == 0:
            return int(done.stdout)
        said = done.stderr.strip().removeprefix("render: ") or f"status {done.returncode}"
        raise UsageError(
            f"The document cannot be rendered: {said}.",
            remedy="Give a libpdfium.so that this machine can load with library=PATH."
            if done.returncode in _CANNOT_SAY
            else "Give another document with pdf=PATH, or other pages with pages=FIRST-LAST.",
        )


def renderer(library: str = "", cache: Cache | None = None) -> Renderer:
    """The renderer for ``library``, a path; empty: the one in the package pypdfium2.

    :raises UsageError: when there is no such library, or it is not for a machine that refbench
        measures.
    :raises BackendError: when the renderer cannot be built.
    :raises StorageError: when the cache cannot be written.
    """
    path = Path(library).expanduser().absolute() if library else bundled()
    arch = architecture(path)
    sources = sorted((NATIVE / "pdfium").glob("*.c"))
    program = build("renderer", sources, arch, cache or Cache.default(), DYNAMIC)
    return Renderer(program.path, path, arch)


def bundled() -> Path:
    """The library in the package pypdfium2, which is not imported for it.

    :raises UsageError: when the package is not installed or has no library of its own.
    """
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise UsageError(
            "The workload pdfium needs libpdfium from the package pypdfium2, which is not "
            "installed.",
            remedy=f"Install it: {INSTALL}. Or give a library of your own with library=PATH.",
        )
    path = Path(next(iter(found.submodule_search_locations))) / _LIBRARY
    if not path.is_file():
        raise UsageError(
            f"The package pypdfium2 has no {_LIBRARY} for this machine in {path.parent}.",
            remedy="Install a wheel of it, not its source, or give a library with library=PATH.",
        )
    return path


def architecture(library: Path) -> str:
    """``x86_64`` or ``arm64``: what a libpdfium was built for.

    :raises UsageError: when it is no shared object, or for another machine.
    """
    try:
        found = read_object(library)
    except Unsupported as error:
        raise UsageError(
            error.message, remedy="Give the path of a libpdfium.so with library=PATH."
        ) from None
    if found is None or not found.shared:
        raise UsageError(
            f"{library} is no 64-bit shared object.",
            remedy="Give the path of a libpdfium.so with library=PATH.",
        )
    if found.arch not in ARCHITECTURES:
        raise UsageError(
            f"There is no libpdfium for a machine that refbench measures: {library} is for "
            f"{found.arch}.",
            remedy=f"Give one for {' or '.join(ARCHITECTURES)} with library=PATH.",
        )
    return found.arch
