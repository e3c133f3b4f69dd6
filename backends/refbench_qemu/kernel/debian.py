"""Debian's source package of the kernel, through apt, without being root.

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
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from refbench.cache import Cache, file_digest
from refbench.errors import BackendError

PACKAGE = "linux-source-6.12"
_URI = re.compile(r"^'[^']+' (\S+)_(\S+)_\w+\.deb (\d+) SHA256:([0-9a-f]{64})", re.MULTILINE)
_LAST = 3
_INSTEAD = "Or name a tree or tarball of Linux with --source; kernel.org has tarballs."


@dataclass(frozen=True, slots=True)
class Offer:
    """A package that apt would fetch."""

    package: str
    revision: str
    size: int
    """Bytes of the package."""
    digest: str
    """SHA-256 of the package."""


@dataclass(slots=True)
class Apt:
    """The program apt, with the system's lists of packages, or our own where those will not do."""

    cache: Cache
    folder: Path
    _options: tuple[str, ...] = ()

    def offer(self, *, renew: bool = False) -> Offer:
        """The version of the package that apt would fetch; ``renew``: by lists of this moment.

        :raises BackendError: when there is none.
        """
        if not renew and (found := self._look()):
            return found
        self._own_lists()
        if found := self._look():
            return found
        raise BackendError(
            f"apt knows no package {PACKAGE}: the distributions that it is set up for lack it.",
            remedy="Debian 13 has it, Debian 12 in bookworm-security and bookworm-backports: add "
            f"one to apt's sources. {_INSTEAD}",
        )

    def fetch(self, offer: Offer, directory: Path) -> Path:
        """The tarball out of the package, in ``directory``.

        :raises BackendError: when it cannot be fetched.
        """
        self.cache.progress(
            f"fetching {offer.package} {offer.revision}, {offer.size >> 20} MiB", None
        )
        done = self._download(offer)
        if done.returncode and not self._options:
            self._own_lists()  # lists that are too old name a version that is gone
            renewed = self._look() or offer
            self.cache.progress(f"fetching {renewed.package} {renewed.revision}", None)
            done, offer = self._download(renewed), renewed
        packages = sorted(self.folder.glob("*.deb"))
        if done.returncode or not packages:
            raise self._failure(f"{offer.package} {offer.revision} cannot be fetched", done)
        if file_digest(packages[0]).hex() != offer.digest:
            raise BackendError(
                f"{offer.package} {offer.revision} came damaged.",
                remedy="Try again; the network or a proxy changed the file.",
            )
        self.cache.progress(f"unpacking {offer.package}", None)
        tarball = directory / f"{offer.package}.tar.xz"
        _extract(packages[0], tarball)
        packages[0].unlink()
        return tarball

    def _look(self) -> Offer | None:
        done = self._run(["download", "--print-uris", PACKAGE])
        match = _URI.search(done.stdout)
        if done.returncode or match is None:
            return None
        package, revision, size, digest = match.groups()
        return Offer(package, revision.replace("%3a", ":"), int(size), digest)

    def _download(self, offer: Offer) -> subprocess.CompletedProcess[str]:
        return self._run(["download", f"{offer.package}={offer.revision}"])

    def _own_lists(self) -> None:
        """Fetch lists of packages into our folder, and use them from now on."""
        self.cache.progress("fetching apt's lists of packages", None)
        for name in ("state/lists/partial", "cache/archives/partial"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._options = (
            *("-o", f"Dir::State={self.folder / 'state'}"),
            *("-o", f"Dir::Cache={self.folder / 'cache'}"),
            *("-o", "Dir::State::status=/var/lib/dpkg/status"),
        )
        done = self._run(["update"])
        if done.returncode:
            raise self._failure("apt's lists of packages cannot be fetched", done)

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

    def _failure(self, what: str, done: subprocess.CompletedProcess[str]) -> BackendError:
        lines = [line for line in done.stderr.splitlines() if line.startswith(("E:", "W:"))]
        said = "\n".join(lines[-_LAST:]) or f"apt-get ended with {done.returncode}"
        return BackendError(
            f"{what}:\n{said}\n",
            remedy="See that the network is there and try `apt-get update`. " + _INSTEAD,
        )


@contextmanager
def apt(cache: Cache) -> Iterator[Apt]:
    """The program apt with a temporary folder below the artefact cache.

    :raises BackendError: where there is no apt.
    """
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise BackendError(
            f"There is no apt here that could get {PACKAGE}, which kernels are built from.",
            remedy="Name a tree or tarball of Linux with --source; kernel.org has tarballs.",
        )
    with cache.temporary("apt") as folder:
        yield Apt(cache, folder)


def _extract(package: Path, tarball: Path) -> None:
    """The one tarball of sources in a package, without unpacking the rest."""
    member = f"./usr/src/{tarball.name}"
    with tempfile.TemporaryFile() as said, tarball.open("wb") as out:
        unpack = subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE, stderr=said
        )
        assert unpack.stdout is not None
        with unpack.stdout:
            take = subprocess.run(
                ["tar", "-xOf", "-", member],
                stdin=unpack.stdout,
                stdout=out,
                stderr=said,
                check=False,
            )
        unpack.wait()
        if take.returncode or not tarball.stat().st_size:
            said.seek(0)
            text = said.read().decode(errors="replace").strip()
            if "No space left" in text:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tarball))
            raise BackendError(
                f"The package {package.name} holds no {member}: {text}",
                remedy=_INSTEAD,
            )
