"""Debian's source package of the kernel."""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from pathlib import Path

from refbench.debian import Apt, Offer, Package
from refbench.errors import BackendError

PACKAGE = "linux-source-6.12"
_INSTEAD = "Or name a tree or tarball of Linux with --source; kernel.org has tarballs."
SOURCE = Package(
    PACKAGE,
    needed_for="which kernels are built from",
    where="Debian 13 has it, Debian 12 in bookworm-security and bookworm-backports: add one to "
    "apt's sources.",
    instead=_INSTEAD,
)


def fetch(apt: Apt, offer: Offer, directory: Path) -> Path:
    """The tarball out of the package, in ``directory``.

    :raises BackendError: when it cannot be fetched.
    """
    package = apt.fetch(offer)
    apt.cache.progress(f"unpacking {offer.name}", None)
    tarball = directory / f"{offer.name}.tar.xz"
    _extract(package, tarball)
    package.unlink()
    return tarball


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
