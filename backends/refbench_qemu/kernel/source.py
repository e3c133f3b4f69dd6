"""The kernel's source: Debian's package by default, a tree or a tarball of the user's own.

Debian's is kept in the artefact cache as the tarball that the package holds, with a note of
where it came from. What is there is used again, so that one machine goes on building one version
until it is asked for a newer one.
"""

from __future__ import annotations

import re
import tarfile
from dataclasses import dataclass
from pathlib import Path

import msgspec

from refbench.cache import Cache, file_digest
from refbench.debian import Apt, Offer, apt
from refbench.errors import UsageError
from refbench_qemu.kernel import debian, listing

KIND = "kernel-source"
NOTE = "source.json"
_FIELDS = ("VERSION", "PATCHLEVEL", "SUBLEVEL", "EXTRAVERSION")
_FIELD = re.compile(rf"^({'|'.join(_FIELDS)})\s*=[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_REMEDY = "Name a Linux source tree, or a tarball of one; without --source Debian's is taken."


@dataclass(frozen=True, slots=True)
class Source:
    """Where a kernel's source is, and what it is."""

    path: Path
    """A tree or a tarball."""
    version: str
    """As its Makefile says: ``6.12.117``."""
    digest: str
    """SHA-256: of the tarball, or of a tree's names and contents."""
    label: str
    """For people and records: package and revision, or the name of the tree."""
    own: bool
    """Whether the user named it."""

    @property
    def series(self) -> str:
        """``6.12``."""
        return ".".join(re.split(r"[.-]", self.version)[:2])

    @property
    def told(self) -> str:
        """What a record says of it."""
        return f"{self.label}, Linux {self.version}, sha256 {self.digest}"


class Note(msgspec.Struct, frozen=True):
    """What is kept beside Debian's tarball."""

    package: str
    revision: str
    """The package's version: ``6.12.117-1~deb12u1``."""
    tarball: str
    version: str
    digest: str


def debian_source(cache: Cache, *, renew: bool) -> Source:
    """Debian's source: the one in the cache, or the package that apt offers now.

    :raises BackendError: when apt cannot get it.
    :raises StorageError: when the cache cannot be written.
    """
    found = None if renew else _newest(cache)
    if found is None:
        with apt(cache, debian.SOURCE) as packages:
            offer = packages.offer(debian.SOURCE, renew=renew)
            inputs = [offer.name, offer.revision, offer.digest]
            found = cache.get(KIND, inputs, lambda directory: _fetch(packages, offer, directory))
    note = _note(found)
    assert note is not None
    return Source(
        found / note.tarball, note.version, note.digest, f"{note.package} {note.revision}", False
    )


def own_source(path: Path, cache: Cache) -> Source:
    """A tree or a tarball of the user's.

    :raises UsageError: when there is no Linux in it.
    """
    path = path.expanduser()
    if path.is_dir():
        makefile = path / "Makefile"
        text = makefile.read_text(errors="replace") if makefile.is_file() else ""
        version = _version(text)
        if not version or not (path / "Kconfig").is_file():
            raise UsageError(f"There is no Linux source in {path}.", remedy=_REMEDY)
        cache.progress(f"reading {path}", None)
        digest = listing.digest(path, listing.files(path))
        return Source(path.resolve(), version, digest, path.resolve().name, True)
    if not path.is_file():
        raise UsageError(f"The source {path} is not there.", remedy=_REMEDY)
    cache.progress(f"reading {path.name}", None)
    version = tarball_version(path)
    return Source(path.resolve(), version, file_digest(path).hex(), path.name, True)


def tarball_version(path: Path) -> str:
    """The version in the Makefile of a tarball's one folder.

    :raises UsageError: when it is no tarball, or no Linux is in it.
    """
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                if Path(member.name).match("*/Makefile") and member.name.count("/") == 1:
                    file = archive.extractfile(member)
                    text = file.read().decode(errors="replace") if file else ""
                    if version := _version(text):
                        return version
                    break
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UsageError(f"{path} is no tarball: {error}.", remedy=_REMEDY) from None
    raise UsageError(f"There is no Linux source in {path}.", remedy=_REMEDY)


def _version(makefile: str) -> str:
    """``6.12.117`` from the top of Linux's Makefile; empty when this is another's."""
    found: dict[str, str] = dict(_FIELD.findall(makefile))
    if not {"VERSION", "PATCHLEVEL", "SUBLEVEL"} <= found.keys():
        return ""
    numbers = [found[name] for name in _FIELDS[:3]]
    return ".".join(numbers) + found.get("EXTRAVERSION", "")


def _newest(cache: Cache) -> Path | None:
    there = [path.parent for path in (cache.root / KIND).glob(f"*/{NOTE}") if _note(path.parent)]
    return max(there, key=lambda path: path.stat().st_mtime_ns, default=None)


def _note(directory: Path) -> Note | None:
    try:
        return msgspec.json.decode((directory / NOTE).read_bytes(), type=Note)
    except (OSError, msgspec.DecodeError):
        return None


def _fetch(packages: Apt, offer: Offer, directory: Path) -> None:
    tarball = debian.fetch(packages, offer, directory)
    note = Note(
        package=offer.name,
        revision=offer.revision,
        tarball=tarball.name,
        version=tarball_version(tarball),
        digest=file_digest(tarball).hex(),
    )
    (directory / NOTE).write_bytes(msgspec.json.format(msgspec.json.encode(note)) + b"\n")
