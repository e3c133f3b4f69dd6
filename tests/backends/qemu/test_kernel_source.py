"""Where a kernel's source comes from, and that a tree of the user's is only read."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from tests.backends.qemu import small_tree

from refbench.cache import Cache, file_digest
from refbench.errors import BackendError, UsageError
from refbench_qemu.kernel import debian, listing
from refbench_qemu.kernel.source import KIND, debian_source, own_source
from refbench_qemu.kernel.tree import place


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return small_tree.plant(tmp_path / "linux")


@pytest.fixture
def own_cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def packed(tree: Path, name: str = "linux.tar.xz") -> Path:
    path = tree.parent / name
    with tarfile.open(path, "w:xz") as archive:
        archive.add(tree, arcname="linux-6.12.5")
    return path


def git(tree: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", "-C", str(tree), *identity, *arguments], check=True)


def test_a_tree_tells_its_version(tree: Path, own_cache: Cache) -> None:
    source = own_source(tree, own_cache)
    assert (source.version, source.series, source.label) == ("6.12.5", "6.12", "linux")
    assert source.own


def test_a_tarball_tells_the_same_version(tree: Path, own_cache: Cache) -> None:
    assert own_source(packed(tree), own_cache).version == "6.12.5"


def test_what_comes_after_the_numbers_belongs_to_the_version(
    tmp_path: Path, own_cache: Cache
) -> None:
    makefile = small_tree.MAKEFILE.replace("EXTRAVERSION =", "EXTRAVERSION = -rc3")
    source = own_source(small_tree.plant(tmp_path / "linux", makefile=makefile), own_cache)
    assert (source.version, source.series) == ("6.12.5-rc3", "6.12")


def test_a_changed_file_makes_another_source(tree: Path, own_cache: Cache) -> None:
    before = own_source(tree, own_cache)
    assert own_source(tree, own_cache) == before
    (tree / "init" / "main.c").write_text("int other;\n")
    assert own_source(tree, own_cache).digest != before.digest


def test_a_program_and_a_link_count_as_what_they_are(tree: Path) -> None:
    def now() -> str:
        return listing.digest(tree, listing.files(tree))

    digests = [now()]
    (tree / "script").write_text("#!/bin/sh\n")
    digests.append(now())
    (tree / "script").chmod(0o755)
    digests.append(now())
    (tree / "link").symlink_to("script")
    digests.append(now())
    (tree / "link").unlink()
    (tree / "link").write_text("#!/bin/sh\n")
    digests.append(now())
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("known_to_git", [False, True])
def test_what_a_build_left_is_not_source(tree: Path, *, known_to_git: bool) -> None:
    if known_to_git:
        git(tree, "init", "--quiet")
        (tree / ".gitignore").write_text("*.o\n.*.cmd\n")
        git(tree, "add", ".")
        git(tree, "commit", "--quiet", "-m", "all")
        (tree / "new.c").write_text("int new;\n")
    before = listing.files(tree)
    (tree / "init" / "main.o").write_bytes(b"\x7fELF")
    (tree / "init" / ".main.o.cmd").write_text("cc")
    assert listing.files(tree) == before
    assert "init/main.c" in before
    assert ("new.c" in before) == known_to_git
    assert not any(name.startswith(".git/") for name in before)


def test_a_repository_around_the_tree_that_ignores_it_does_not_matter(tree: Path) -> None:
    git(tree.parent, "init", "--quiet")
    (tree.parent / ".gitignore").write_text("linux\n")
    assert "init/main.c" in listing.files(tree)


def test_a_deleted_file_of_a_repository_is_left_out(tree: Path, tmp_path: Path) -> None:
    git(tree, "init", "--quiet")
    git(tree, "add", ".")
    git(tree, "commit", "--quiet", "-m", "all")
    (tree / "Kconfig").rename(tree / "Kconfig.other")
    assert {"Kconfig.other", "Makefile"} <= set(listing.files(tree))
    assert "Kconfig" not in listing.files(tree)


@pytest.mark.parametrize("form", ["tree", "tarball"])
def test_the_copy_is_the_source(tree: Path, own_cache: Cache, tmp_path: Path, form: str) -> None:
    (tree / "script").write_text("#!/bin/sh\n")
    (tree / "script").chmod(0o755)
    (tree / "link").symlink_to("init/main.c")
    source = own_source(tree if form == "tree" else packed(tree), own_cache)
    place(source, tmp_path / "copy", ())
    names = listing.files(tmp_path / "copy")
    assert names == listing.files(tree)
    assert listing.digest(tmp_path / "copy", names) == listing.digest(tree, names)


def test_what_is_no_source_is_refused(tmp_path: Path, own_cache: Cache) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="There is no Linux source in"):
        own_source(tmp_path / "empty", own_cache)
    with pytest.raises(UsageError, match="is not there"):
        own_source(tmp_path / "absent", own_cache)
    (tmp_path / "text").write_bytes(b"no tarball at all")
    with pytest.raises(UsageError, match="is no tarball"):
        own_source(tmp_path / "text", own_cache)


def test_a_cut_tarball_is_refused(tree: Path, own_cache: Cache) -> None:
    (tree / "init" / "large").write_bytes(os.urandom(1 << 20))
    path = packed(tree)
    path.write_bytes(path.read_bytes()[: 1 << 16])
    with pytest.raises(UsageError):
        place(own_source(path, own_cache), tree.parent / "copy", ())


def test_a_tarball_of_something_else_is_refused(tmp_path: Path, own_cache: Cache) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "Makefile").write_text("all:\n")
    with pytest.raises(UsageError, match="There is no Linux source in"):
        own_source(packed(other), own_cache)


def test_without_apt_the_remedy_is_a_source_of_ones_own(
    own_cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendError, match="no apt here") as caught:
        debian_source(own_cache, renew=False)
    assert "--source" in caught.value.remedy


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """apt set up for a repository of one's own in a folder, with nobody else's lists."""
    folder = tmp_path / "repository"
    folder.mkdir()
    configuration = tmp_path / "apt.conf"
    (tmp_path / "parts").mkdir()
    (tmp_path / "system" / "lists" / "partial").mkdir(parents=True)
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] file:{folder} ./\n")
    configuration.write_text(
        f'Dir::Etc::sourcelist "{tmp_path / "sources.list"}";\n'
        f'Dir::Etc::sourceparts "{tmp_path / "parts"}";\n'
        f'Dir::State::lists "{tmp_path / "system" / "lists"}";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(configuration))
    return folder


def publish(repository: Path, tree: Path, revision: str) -> None:
    """Put a package with a tarball of ``tree`` into the repository."""
    package = repository.parent / "package"
    sources = package / "usr" / "src"
    (package / "DEBIAN").mkdir(parents=True, exist_ok=True)
    sources.mkdir(parents=True, exist_ok=True)
    packed(tree).rename(sources / f"{debian.PACKAGE}.tar.xz")
    (package / "DEBIAN" / "control").write_text(
        f"Package: {debian.PACKAGE}\nVersion: {revision}\nArchitecture: all\n"
        "Maintainer: t <t@example.org>\nDescription: a small one\n"
    )
    name = f"{debian.PACKAGE}_{revision}_all.deb"
    argv = ["dpkg-deb", "--build", str(package), str(repository / name)]
    subprocess.run(argv, check=True, capture_output=True)
    deb = repository / name
    with (repository / "Packages").open("a") as index:
        index.write((package / "DEBIAN" / "control").read_text())
        index.write(f"Filename: ./{name}\nSize: {deb.stat().st_size}\n")
        index.write(f"SHA256: {file_digest(deb).hex()}\n\n")


def test_debians_package_is_fetched_without_lists_and_kept(
    repository: Path, tree: Path, own_cache: Cache
) -> None:
    publish(repository, tree, "6.12.5-1")
    source = debian_source(own_cache, renew=False)
    assert (source.version, source.label) == ("6.12.5", f"{debian.PACKAGE} 6.12.5-1")
    assert not source.own
    (repository / "Packages").unlink()
    assert debian_source(own_cache, renew=False) == source
    assert list((own_cache.root / "building").iterdir()) == []


def test_a_newer_package_is_taken_when_asked_for(
    repository: Path, tree: Path, own_cache: Cache
) -> None:
    publish(repository, tree, "6.12.5-1")
    old = debian_source(own_cache, renew=False)
    makefile = tree / "Makefile"
    makefile.write_text(makefile.read_text().replace("SUBLEVEL = 5", "SUBLEVEL = 6"))
    publish(repository, tree, "6.12.6-1")
    assert debian_source(own_cache, renew=False) == old
    assert debian_source(own_cache, renew=True).version == "6.12.6"
    assert debian_source(own_cache, renew=False).version == "6.12.6"


def test_apt_without_the_package_says_where_it_is(repository: Path, own_cache: Cache) -> None:
    (repository / "Packages").write_text("")
    with pytest.raises(BackendError, match=f"no package {debian.PACKAGE}") as caught:
        debian_source(own_cache, renew=False)
    assert "--source" in caught.value.remedy
    assert not (own_cache.root / KIND).exists() or not any((own_cache.root / KIND).iterdir())


def test_a_repository_that_is_gone_is_named(repository: Path, tree: Path, own_cache: Cache) -> None:
    publish(repository, tree, "6.12.5-1")
    for path in repository.iterdir():
        path.unlink()
    repository.rmdir()
    with pytest.raises(BackendError, match="cannot be fetched") as caught:
        debian_source(own_cache, renew=False)
    assert os.fspath(repository) in caught.value.message
