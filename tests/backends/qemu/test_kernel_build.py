"""What becomes of a build: what is kept, what is recorded, and every way in which it fails."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from tests.backends.qemu import small_tree

from refbench.cache import Cache, file_digest
from refbench.errors import BackendError, StorageError, UsageError
from refbench.vm import kernels
from refbench_qemu.kernel import configure, running
from refbench_qemu.kernel.build import built
from refbench_qemu.kernel.recipe import Order, is_current, usual_name

Refbench = Callable[..., "CompletedProcess[str]"]
REFBENCH = Path(sys.executable).with_name("refbench")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return small_tree.plant(tmp_path / "linux")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setenv("REFBENCH_CACHE", str(tmp_path / "cache"))
    return Cache.default()


def order(tree: Path, patches: str = "none", name: str = "") -> Order:
    return Order(source=str(tree), patches=(patches,), name=name)


def left(cache: Cache) -> list[Path]:
    """What builds left behind that should not be there. The tree goes in the background."""
    wait_for(lambda: not list((cache.root / "building").glob("*")))
    there = [path for name in ("building", kernels.KIND) for path in (cache.root / name).glob("*")]
    return [path for path in there if kernels.Record.read(path) is None]


def test_a_kernel_is_kept_with_what_it_was_made_of(tree: Path, own_cache: Cache) -> None:
    kernel = built(order(tree), own_cache)
    assert (kernel.name, kernel.version, kernel.arch) == ("linux", "6.12.5-linux", "x86_64")
    assert (kernel.config, kernel.patches) == ("minimal", ())
    assert kernel.syscalls == {"read": 0, "refpage_create": 463}
    assert "Linux 6.12.5, sha256 " in kernel.source
    assert "gcc" in kernel.compiler
    assert len(kernel.build_id) == 40
    there = {path.name for path in kernel.image.parent.iterdir()}
    assert there == {"bzImage", "config", "System.map", "modules", kernels.RECORD}
    assert kernel.image.read_text().endswith(small_tree.MAIN)
    assert left(own_cache) == []


def test_it_is_found_by_its_name_and_by_the_path_of_its_image(tree: Path, own_cache: Cache) -> None:
    kernel = built(order(tree, name="mine"), own_cache)
    assert kernels.find("mine") == kernel
    assert kernels.find(str(kernel.image)) == kernel
    assert kernels.built() == (kernel,)
    with pytest.raises(UsageError, match="one for x86_64, not for arm64"):
        kernels.find(str(kernel.image), arch="arm64")
    with pytest.raises(BackendError, match="No kernel 'patched' has been built") as caught:
        kernels.find()
    assert "refbench kernel build" in caught.value.remedy


def test_the_same_order_builds_nothing(tree: Path, own_cache: Cache) -> None:
    kernel = built(order(tree), own_cache)
    stamp = kernel.image.stat().st_mtime_ns
    shares: list[float | None] = []

    def progress(_: str, share: float | None) -> None:
        shares.append(share)

    again = built(order(tree), Cache(own_cache.root, progress))
    assert again == kernel
    assert kernel.image.stat().st_mtime_ns == stamp
    assert shares == [None]


def test_of_two_with_one_name_the_last_one_asked_for_counts(tree: Path, own_cache: Cache) -> None:
    first = built(order(tree), own_cache)
    main = tree / "init" / "main.c"
    main.write_text(small_tree.MAIN.replace("count = 1", "count = 7"))
    second = built(order(tree), own_cache)
    assert second.digest != first.digest
    assert kernels.find("linux") == second
    main.write_text(small_tree.MAIN)
    assert built(order(tree), own_cache) == first
    assert kernels.find("linux") == first


@pytest.mark.parametrize("here", ["x86_64", "arm64"])
def test_of_two_architectures_this_machines_counts(
    tree: Path, own_cache: Cache, monkeypatch: pytest.MonkeyPatch, here: str
) -> None:
    kernel = built(order(tree), own_cache)
    later = shutil.copytree(kernel.image.parent, kernel.image.parent.with_name("0"))
    record = later / kernels.RECORD
    record.write_text(record.read_text().replace('"x86_64"', '"arm64"'))
    monkeypatch.setattr(kernels, "host_arch", lambda: here)
    assert kernels.find("linux").arch == here
    assert {kernels.find("linux", arch).arch for arch in ("x86_64", "arm64")} == {"x86_64", "arm64"}


@pytest.mark.skipif(not shutil.which("ccache"), reason="ccache is not installed")
def test_a_kernel_of_another_name_takes_the_objects_of_the_first(
    tree: Path, own_cache: Cache
) -> None:
    def hits() -> int:
        said = subprocess.run(
            ["ccache", "-d", own_cache.root / "ccache", "--print-stats"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        return int(dict(line.split("\t") for line in said.splitlines())["direct_cache_hit"])

    first = built(order(tree), own_cache)
    before = hits()
    second = built(order(tree, name="another"), own_cache)
    assert second.version != first.version
    assert hits() == before + 1


def test_the_tree_is_only_read(tree: Path, own_cache: Cache, tmp_path: Path) -> None:
    def stamps() -> dict[str, int]:
        return {str(path): path.lstat().st_mtime_ns for path in tree.rglob("*")}

    before = stamps()
    folder = small_tree.patches(tmp_path / "patches", small_tree.PATCH)
    built(order(tree, str(folder)), own_cache)
    assert stamps() == before


def test_a_tree_that_was_built_in_is_cleaned_in_the_copy(tree: Path, own_cache: Cache) -> None:
    (tree / ".config").write_text("CONFIG_FROM_BEFORE=y\n")
    kernel = built(order(tree), own_cache)
    assert "FROM_BEFORE" not in (kernel.image.parent / "config").read_text()


def test_patches_are_applied_in_order_and_recorded(
    tree: Path, own_cache: Cache, tmp_path: Path
) -> None:
    further = small_tree.PATCH.replace("count = 2", "count = 3").replace("count = 1", "count = 2")
    folder = small_tree.patches(tmp_path / "patches", small_tree.PATCH, further)
    kernel = built(order(tree, str(folder)), own_cache)
    assert kernel.name == "linux-patches"
    assert "count = 3;" in kernel.image.read_text()
    names = ["0001-change.patch", "0002-change.patch"]
    assert [patch.name for patch in kernel.patches] == names
    assert [patch.digest for patch in kernel.patches] == [
        file_digest(folder / name).hex() for name in names
    ]


def test_two_builds_in_different_places_are_alike(tree: Path, tmp_path: Path) -> None:
    made = [built(order(tree), Cache(tmp_path / name)) for name in ("one", "a-longer-name")]
    assert made[0].digest == made[1].digest
    assert made[0].build_id == made[1].build_id


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("count = ", "total = "), "init/main.c, hunk 1 (at line 4)"),
        (("init/main.c", "init/absent.c"), "init/absent.c is not there"),
    ],
)
def test_a_patch_that_does_not_apply_is_named_with_file_and_hunk(
    tree: Path, own_cache: Cache, tmp_path: Path, change: tuple[str, str], says: str
) -> None:
    folder = small_tree.patches(
        tmp_path / "patches", small_tree.PATCH, small_tree.PATCH.replace(*change)
    )
    with pytest.raises(BackendError) as caught:
        built(order(tree, str(folder)), own_cache)
    assert f"0002-change.patch does not apply: {says}" in caught.value.message
    assert left(own_cache) == []


def test_folders_without_patches_are_refused(tree: Path, own_cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder"):
        built(order(tree, str(tmp_path / "absent")), own_cache)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no \*\.patch"):
        built(order(tree, str(tmp_path / "empty")), own_cache)


def test_refbenchs_patches_are_for_their_series_alone(tree: Path, own_cache: Cache) -> None:
    makefile = tree / "Makefile"
    makefile.write_text(makefile.read_text().replace("PATCHLEVEL = 12", "PATCHLEVEL = 13"))
    with pytest.raises(UsageError, match=r"this source is Linux 6\.13") as caught:
        built(order(tree, "default"), own_cache)
    assert "--patches none" in caught.value.remedy


def test_an_option_that_did_not_stick_is_named(
    tree: Path, own_cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fragment = tmp_path / "minimal.config"
    fragment.write_text("CONFIG_FUTEX=y\nCONFIG_REFUSED=y\n# CONFIG_NET is not set\n")
    monkeypatch.setattr(configure, "CONFIGS", tmp_path)
    with pytest.raises(BackendError) as caught:
        built(order(tree), own_cache)
    said = caught.value.message
    assert "CONFIG_REFUSED=y (minimal.config) became n" in said
    assert "FUTEX" not in said
    assert left(own_cache) == []


def test_a_compile_error_is_shown_with_the_log(tree: Path, own_cache: Cache) -> None:
    (tree / "init" / "main.c").write_text(small_tree.MAIN.replace("count = 1;", "cuont = 1;"))
    with pytest.raises(BackendError) as caught:
        built(order(tree), own_cache)
    assert "init/main.c:6:9: error:" in caught.value.message
    log = Path(caught.value.remedy.rpartition(" ")[2].rstrip("."))
    assert "cuont" in log.read_text()
    assert left(own_cache) == []


def test_missing_tools_are_named_all_at_once(
    tree: Path, own_cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(BackendError) as caught:
        built(order(tree), own_cache)
    for name in ("make", "flex", "bison", "bc", "gcc", "ld"):
        assert f" {name}" in caught.value.message
    remedy = caught.value.remedy
    assert "apt-get install -y make flex bison bc" in remedy
    assert "binutils" in remedy


def test_the_cross_compiler_that_is_missing_is_named(
    tree: Path, own_cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for path in os.environ["PATH"].split(":"):
        for tool in Path(path).glob("*"):
            if not tool.name.startswith("aarch64") and not (folder / tool.name).exists():
                (folder / tool.name).symlink_to(tool)
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(BackendError, match="aarch64-linux-gnu-gcc") as caught:
        built(Order(arch="arm64", source=str(tree), patches=("none",)), own_cache)
    assert caught.value.remedy.endswith("install -y gcc-aarch64-linux-gnu")


def test_a_full_disk_is_said_before_anything_is_begun(
    tree: Path, own_cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refbench_qemu.kernel.build._ROOM", {"minimal": 1 << 60})
    with pytest.raises(StorageError, match=r"needs \d+ MiB"):
        built(order(tree), own_cache)
    assert left(own_cache) == []


def test_a_disk_that_fills_up_while_building_is_said(tree: Path, own_cache: Cache) -> None:
    full = '\techo x >/dev/full || { echo "make: No space left on device"; exit 1; }\n'
    makefile = small_tree.MAKEFILE.replace("\tmkdir -p arch", f"{full}\tmkdir -p arch")
    (tree / "Makefile").write_text(makefile)
    with pytest.raises(StorageError, match="There is no room for kernel"):
        built(order(tree), own_cache)
    assert left(own_cache) == []


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (Order(), "patched"),
        (Order(config="distro"), "patched-distro"),
        (Order(config="debug"), "patched-debug"),
        (Order(patches=("none",)), "stock"),
        (Order(patches=("none",), config="debug"), "stock-debug"),
        (Order(patches=("v1",)), "v1"),
        (Order(source="/src/Linux-6.14.tar.xz", patches=("none",)), "linux-6-14"),
        (Order(source="/src/linux"), "linux-patched"),
        (Order(patches=("default", "/my/Fixes")), "patched-fixes"),
    ],
)
def test_the_usual_names(given: Order, name: str) -> None:
    assert usual_name(given) == name


def test_a_name_that_no_target_can_say_is_refused(tree: Path, own_cache: Cache) -> None:
    with pytest.raises(UsageError, match="cannot be a kernel's name"):
        built(order(tree, name="a,b=c"), own_cache)


def test_the_command_builds_lists_and_says_where(
    tree: Path, own_cache: Cache, refbench: Refbench
) -> None:
    answer = refbench("kernel", "build", "--source", tree, "--patches", "none", "--json")
    assert answer.returncode == 0, answer.stderr
    record = json.loads(answer.stdout)
    assert record["name"] == "linux"
    assert Path(record["image"]).is_file()
    assert "compiling" in answer.stderr
    listed = json.loads(refbench("kernel", "list", "--json").stdout)["kernels"]
    assert listed == [record]
    table = refbench("kernel", "list").stdout
    assert "6.12.5-linux" in table
    assert record["digest"][:12] in table
    again = refbench("kernel", "build", "--source", tree, "--patches", "none")
    assert "built before" in again.stdout


def test_the_command_prints_no_traceback_for_an_error(
    tree: Path, own_cache: Cache, refbench: Refbench
) -> None:
    (tree / "init" / "main.c").write_text("#error not like this\n")
    answer = refbench("kernel", "build", "--source", tree, "--patches", "none")
    assert answer.returncode == 3
    assert "not like this" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert "No kernel has been built" in refbench("kernel", "list").stdout


def processes_in(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if (entry / "cwd").readlink().is_relative_to(folder):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def wait_for(what: Callable[[], bool], seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_an_interrupted_build_leaves_nothing(tree: Path, own_cache: Cache, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    hang = f"\t@echo '  CC      init/slow.o'; touch {begun}; sleep 600\n"
    makefile = small_tree.MAKEFILE.replace("\tmkdir -p arch", f"{hang}\tmkdir -p arch")
    (tree / "Makefile").write_text(makefile)
    with subprocess.Popen(
        [REFBENCH, "kernel", "build", "--source", tree, "--patches", "none"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert wait_for(begun.exists)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "nothing half-built is kept" in said
    assert left(own_cache) == []
    assert wait_for(lambda: not processes_in(own_cache.root))


def test_a_program_that_says_nothing_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "SILENT", 0.2)
    monkeypatch.setattr(running, "TICK", 0.05)
    with pytest.raises(BackendError, match="has said nothing"):
        running.run(["sleep", "600"], tmp_path, dict(os.environ), tmp_path / "log", str)
    assert wait_for(lambda: not processes_in(tmp_path))


def test_a_kernel_with_another_recipe_is_not_current(tree: Path, own_cache: Cache) -> None:
    kernel = built(order(tree, name="stock"), own_cache)
    assert is_current(kernel)
    assert not is_current(replace(kernel, recipe="0" * 64))
    assert is_current(replace(kernel, recipe="0" * 64, name="mine"))
    older = replace(kernel, name="patched", version="5.10.3")
    assert not is_current(older)
