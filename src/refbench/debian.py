"""Debian packages through apt, without being root.

``apt-get download`` puts a package into the current directory for any user, when the lists of
packages are there and new enough. Where they are not, they are fetched into a folder of our own
below the artefact cache, from the places that the system's own configuration names.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from refbench.cache import Cache, file_digest
from refbench.errors import BackendError

_URI = re.compile(r"^'[^']+' (\S+)_(\S+)_\w+\.deb (\d+) SHA256:([0-9a-f]{64})", re.MULTILINE)
_LAST = 3
_NOTE = "package.json"


@dataclass(frozen=True, slots=True)
class Package:
    """A package that is wanted, and what people are told when it cannot be had."""

    name: str
    needed_for: str
    """A clause: ``which kernels are built from``."""
    where: str = ""
    """A sentence that says which distributions have it."""
    instead: str = ""
    """A sentence that says what to do without it."""
    arch: str = ""
    """Debian's word for the architecture; empty: this machine's."""

    @property
    def asked(self) -> str:
        """How apt is asked for it."""
        return f"{self.name}:{self.arch}" if self.arch else self.name


@dataclass(frozen=True, slots=True)
class Offer:
    """A package that apt would fetch."""

    package: Package
    revision: str
    size: int
    """Bytes of the package."""
    digest: str
    """SHA-256 of the package."""

    @property
    def name(self) -> str:
        """The package's."""
        return self.package.name


@dataclass(slots=True)
class Apt:
    """The program apt, with the system's lists of packages, or our own where those will not do."""

    cache: Cache
    folder: Path
    _options: tuple[str, ...] = ()

    def offer(self, package: Package, *, renew: bool = False) -> Offer:
        """The version of the package that apt would fetch; ``renew``: by lists of this moment.

        :raises BackendError: when there is none.
        """
        if not renew and (found := self.look(package)):
            return found
        self._own_lists(package)
        if found := self.look(package):
            return found
        raise BackendError(
            f"apt knows no package {package.asked}: the distributions that it is set up for "
            "lack it.",
            remedy=f"{package.where} {package.instead}".strip(),
        )

    def fetch(self, offer: Offer) -> Path:
        """The package's file, in a temporary folder.

        :raises BackendError: when it cannot be fetched.
        """
        self.cache.progress(f"fetching {offer.name} {offer.revision}, {offer.size >> 10} KiB", None)
        done = self._download(offer)
        if done.returncode and not self._options:
            self._own_lists(offer.package)  # lists that are too old name a version that is gone
            renewed = self.look(offer.package) or offer
            self.cache.progress(f"fetching {renewed.name} {renewed.revision}", None)
            done, offer = self._download(renewed), renewed
        files = sorted(self.folder.glob("*.deb"))
        if done.returncode or not files:
            raise _failure(f"{offer.name} {offer.revision} cannot be fetched", offer.package, done)
        if file_digest(files[0]).hex() != offer.digest:
            raise BackendError(
                f"{offer.name} {offer.revision} came damaged.",
                remedy="Try again; the network or a proxy changed the file.",
            )
        return files[0]

    def look(self, package: Package) -> Offer | None:
        """What apt would fetch by the lists that it has; ``None`` when that is nothing."""
        done = self._run(["download", "--print-uris", package.asked])
        match = _URI.search(done.stdout)
        if done.returncode or match is None:
            return None
        _, revision, size, digest = match.groups()
        return Offer(package, revision.replace("%3a", ":"), int(size), digest)

    def _download(self, offer: Offer) -> subprocess.CompletedProcess[str]:
        return self._run(["download", f"{offer.package.asked}={offer.revision}"])

    def _own_lists(self, package: Package) -> None:
        """Fetch lists of packages into our folder, and use them from now on."""
        self.cache.progress("fetching apt's lists of packages", None)
        for name in ("state/lists/partial", "cache/archives/partial"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._options = (
            *("-o", f"Dir::State={self.folder / 'state'}"),
            *("-o", f"Dir::Cache={self.folder / 'cache'}"),
            *("-o", "Dir::State::status=/var/lib/dpkg/status"),
            *(("-o", f"APT::Architectures::={package.arch}") if package.arch else ()),
        )
        done = self._run(["update"])
        if done.returncode:
            raise _failure("apt's lists of packages cannot be fetched", package, done)

    def _run(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        # Our folder belongs to us alone: as root, apt would otherwise complain that its
        # unprivileged user cannot write there.
        argv = ["apt-get", "-q", "-o", "APT::Sandbox::User=", *self._options, *arguments]
        return subprocess.run(
            argv,
            cwd=self.folder,
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            check=False,
        )


@contextmanager
def apt(cache: Cache, package: Package) -> Iterator[Apt]:
    """The program apt with a temporary folder below the artefact cache.

    :raises BackendError: where there is no apt that could get ``package``.
    """
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise BackendError(
            f"There is no apt here that could get {package.name}, {package.needed_for}.",
            remedy=package.instead,
        )
    with cache.temporary("apt") as folder:
        yield Apt(cache, folder)


def unpack(file: Path, directory: Path) -> None:
    """The files of a package into a directory.

    :raises BackendError: when it cannot be read.
    """
    done = subprocess.run(
        ["dpkg-deb", "--extract", str(file), str(directory)],
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        if "No space left" in done.stderr:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory))
        raise BackendError(
            f"The package {file.name} cannot be unpacked: {done.stderr.strip()}",
            remedy="Try again, or fetch the package anew.",
        )


class _Note(msgspec.Struct, frozen=True):
    """What is kept beside a package's files."""

    package: str
    arch: str
    revision: str


@dataclass(frozen=True, slots=True)
class Kept:
    """The files that were taken from a package."""

    path: Path
    """The directory that they are in."""
    package: str
    revision: str


def keep(cache: Cache, kind: str, choice: Sequence[Package], wanted: Sequence[str]) -> Kept:
    """The files ``wanted`` (patterns below the package's root; one match each) of the first
    package of ``choice`` that apt has, from the cache or fetched now.

    What is in the cache is used again, so that one machine goes on with one version.

    :raises BackendError: when apt cannot get any, or it has no such file.
    :raises StorageError: when the cache cannot be written.
    """
    if found := _newest(cache, kind, choice[0].arch):
        return found
    with apt(cache, choice[0]) as packages:
        offer = _first_offer(packages, choice)
        inputs = [offer.package.asked, offer.revision, offer.digest, *wanted]

        def take(directory: Path) -> None:
            with cache.temporary("unpacked") as root:
                unpack(packages.fetch(offer), root)
                for pattern in wanted:
                    shutil.copy(_only(root, pattern, offer.name), directory)
            note = _Note(offer.name, offer.package.arch, offer.revision)
            (directory / _NOTE).write_bytes(msgspec.json.encode(note))

        return Kept(cache.get(kind, inputs, take), offer.name, offer.revision)


def _first_offer(packages: Apt, choice: Sequence[Package]) -> Offer:
    for package in choice[:-1]:
        if found := packages.look(package):
            return found
    return packages.offer(choice[-1])


def _newest(cache: Cache, kind: str, arch: str) -> Kept | None:
    found: list[tuple[int, Kept]] = []
    for path in (cache.root / kind).glob(f"*/{_NOTE}"):
        try:
            note = msgspec.json.decode(path.read_bytes(), type=_Note)
        except (OSError, msgspec.DecodeError):
            continue
        if note.arch == arch:
            kept = Kept(path.parent, note.package, note.revision)
            found.append((path.stat().st_mtime_ns, kept))
    return max(found, key=lambda item: item[0])[1] if found else None


def _only(root: Path, pattern: str, package: str) -> Path:
    found = sorted(root.glob(pattern))
    if not found:
        raise BackendError(
            f"The package {package} holds no {pattern}.",
            remedy="It is not the package that refbench knows; report its version.",
        )
    return found[0]


def _failure(what: str, package: Package, done: subprocess.CompletedProcess[str]) -> BackendError:
    lines = [line for line in done.stderr.splitlines() if line.startswith(("E:", "W:"))]
    said = "\n".join(lines[-_LAST:]) or f"apt-get ended with {done.returncode}"
    return BackendError(
        f"{what}:\n{said}\n",
        remedy="See that the network is there and try `apt-get update`. " + package.instead,
    )
