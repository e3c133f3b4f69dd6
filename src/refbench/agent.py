"""Builds the agent and what starts it for an architecture, on demand, through the artefact cache.

The agent is one static program: its own sources, the mechanism library, and the C files of
every registered mechanism, so that a plugin's mechanism needs nothing but its file.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from refbench.cache import Cache, Material, file_digest
from refbench.errors import BackendError
from refbench.words import AVAILABLE, Availability, Mechanism

NATIVE = Path(__file__).parent / "native"
"""The C sources that come with refbench."""
FLAGS = ("-std=c11", "-O2", "-static", "-pthread", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64")
"""Of programs that need nothing on their target."""
DYNAMIC = tuple(flag for flag in FLAGS if flag != "-static")
"""Of programs that load shared objects, linked against the GNU C library."""
I386 = "i386"
"""The architecture of 32-bit agents, which run on an x86_64 kernel with IA32 emulation."""
_MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}
_TRIPLES = {"x86_64": "x86_64", "arm64": "aarch64", I386: "i686"}
_ZIG = {**_TRIPLES, I386: "x86"}
_DEBIAN = {
    "x86_64": "gcc-x86-64-linux-gnu libc6-dev-amd64-cross",
    "arm64": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    I386: "gcc-i686-linux-gnu libc6-dev-i386-cross",
}
_SHOWN_LINES = 4
_NO_LIBC = re.compile(
    r"fatal error: '?(?:(?:sys|linux|asm|bits)/\w+|std\w+|string|errno|unistd|fcntl|signal|time)\.h"
    r"|cannot find -lc\b|cannot find \S*crt\w*\.o"
)
_TIMEOUT = 600.0


@dataclass(frozen=True, slots=True)
class Binary:
    """A program that was built: where it is, what it is, and what made it."""

    path: Path
    digest: str
    """SHA-256 of the file."""
    compiler: str
    """The first line of the compiler's ``--version``."""
    arch: str


@dataclass(frozen=True, slots=True)
class Compiler:
    """A command that compiles for ``arch``."""

    argv: tuple[str, ...]
    arch: str

    @property
    def is_zig(self) -> bool:
        """``zig cc``: clang with C libraries of its own, which keeps a cache of its own."""
        return "-target" in self.argv

    def version(self) -> str:
        """The first line of ``--version``; empty when the command does not work."""
        try:
            done = subprocess.run(
                [*self.argv, "--version"], capture_output=True, text=True, timeout=60, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout.partition("\n")[0].strip() if done.returncode == 0 else ""


def host_arch() -> str:
    """This machine's architecture in refbench's spelling: ``x86_64`` or ``arm64``.

    :raises BackendError: for any other.
    """
    machine = platform.machine().lower()
    if machine not in _MACHINES:
        raise BackendError(
            f"refbench has no agent for the architecture {machine!r}.",
            remedy="It measures x86_64 and arm64; use the simulator or a remote target here.",
        )
    return _MACHINES[machine]


def compilers(arch: str, *, static: bool = True) -> tuple[Compiler, ...]:
    """The compilers for ``arch`` that are installed, best first. ``CC`` goes before all others
    when it is set and ``arch`` is this machine's. Programs that are not ``static`` are for the
    GNU C library."""
    commands: list[tuple[str, ...]] = []
    if arch == host_arch():
        chosen = tuple(shlex.split(os.environ.get("CC", "")))
        if chosen and not shutil.which(chosen[0]):
            raise BackendError(
                f"The compiler that the variable CC names, {chosen[0]!r}, is not there.",
                remedy="Unset CC, or set it to a C compiler.",
            )
        commands += [chosen] if chosen else []
        commands += [(name,) for name in ("cc", "gcc", "clang")]
    else:
        commands += [(f"{_TRIPLES[arch]}-linux-gnu-gcc",)]
    target = ("cc", "-target", f"{_ZIG[arch]}-linux-{'musl' if static else 'gnu'}")
    if importlib.util.find_spec("ziglang"):
        commands.append((sys.executable, "-m", "ziglang", *target))
    commands.append(("zig", *target))
    return tuple(Compiler(argv, arch) for argv in commands if shutil.which(argv[0]))


def compiler_probe(arch: str | None = None) -> Availability:
    """Whether an agent can be built for ``arch`` (this machine's by default); compiles nothing."""
    try:
        arch = arch or host_arch()
        found = compilers(arch)
    except BackendError as error:
        return Availability(False, error.message, error.remedy)
    if found:
        return AVAILABLE
    missing = _no_compiler(arch)
    return Availability(False, missing.message, missing.remedy)


def mechanism_sources(mechanisms: Iterable[Mechanism]) -> tuple[Path, ...]:
    """The C files of ``mechanisms``, each once, in a stable order."""
    return tuple(dict.fromkeys(path for m in mechanisms for path in m.sources))


def build_agent(
    arch: str | None = None,
    *,
    cache: Cache | None = None,
    mechanisms: Iterable[Mechanism] | None = None,
) -> Binary:
    """The agent for ``arch`` (this machine's by default) with all registered mechanisms.

    :raises BackendError: without a compiler, and when a source does not compile.
    :raises StorageError: when the cache cannot be written.
    """
    if mechanisms is None:
        from refbench.plugins import registry

        mechanisms = registry().mechanisms.values()
    sources = (
        *sorted((NATIVE / "agent").glob("*.c")),
        NATIVE / "library.c",
        *mechanism_sources(mechanisms),
    )
    return build("agent", sources, arch or host_arch(), cache or Cache.default())


def build_launcher(arch: str | None = None, *, cache: Cache | None = None) -> Binary:
    """The launcher for ``arch`` (this machine's by default).

    :raises BackendError: without a compiler, and when it does not compile.
    :raises StorageError: when the cache cannot be written.
    """
    sources = sorted((NATIVE / "launcher").glob("*.c"))
    return build("launcher", sources, arch or host_arch(), cache or Cache.default())


def build_guest(arch: str | None = None, *, cache: Cache | None = None) -> Binary:
    """The first process of a virtual machine's guest of ``arch`` (this machine's by default).

    :raises BackendError: without a compiler, and when it does not compile.
    :raises StorageError: when the cache cannot be written.
    """
    sources = sorted((NATIVE / "guest").glob("*.c"))
    return build("guest", sources, arch or host_arch(), cache or Cache.default())


def build(
    name: str, sources: Sequence[Path], arch: str, cache: Cache, flags: tuple[str, ...] = FLAGS
) -> Binary:
    """One program called ``name`` from C ``sources``, from the cache or built now; a static one
    unless ``flags`` say otherwise.

    :raises BackendError: without a compiler, and when a source does not compile.
    :raises StorageError: when the cache cannot be written.
    """
    for source in sources:
        if not source.is_file():
            raise BackendError(
                f"The C source {source} of the {name} is not there.",
                remedy="Install refbench, or the plugin that the file belongs to, again.",
            )
    material = _material(sources)
    works_not: BackendError | None = None
    for compiler in compilers(arch, static="-static" in flags):
        version = compiler.version()
        if not version:
            continue
        inputs = [name, arch, version, *compiler.argv[1:], *flags, *material]
        place = cache.find(name, inputs)
        if place is None:
            try:
                place = cache.get(
                    name, inputs, _Build(name, tuple(sources), compiler, cache, flags)
                )
            except _Incomplete as error:
                works_not = works_not or error
                continue
        return Binary(place / name, file_digest(place / name).hex(), version, arch)
    raise works_not or _no_compiler(arch)


class _Incomplete(BackendError):
    """The compiler has no C library; another one may."""


def _material(sources: Sequence[Path]) -> list[Material]:
    headers = {path for source in sources for path in source.parent.glob("*.h")}
    return [*sources, *sorted(headers | set(NATIVE.rglob("*.h")))]


@dataclass(frozen=True, slots=True)
class _Build:
    """Compiles the sources one by one, so that an error names its file, and links them."""

    name: str
    sources: tuple[Path, ...]
    compiler: Compiler
    cache: Cache
    flags: tuple[str, ...]

    def __call__(self, directory: Path) -> None:
        objects = [directory / f"{i}-{source.stem}.o" for i, source in enumerate(self.sources)]
        environment = {**os.environ, "LC_ALL": "C", "TMPDIR": str(directory)}
        if self.compiler.is_zig:
            environment["ZIG_GLOBAL_CACHE_DIR"] = str(self.cache.root / "zig")
            environment["ZIG_LOCAL_CACHE_DIR"] = str(directory / "zig")
        common = [
            *self.compiler.argv,
            *self.flags,
            f"-I{NATIVE}",
            f"-ffile-prefix-map={NATIVE}=native",
        ]
        if self.compiler.is_zig:
            common.append("-fno-sanitize=undefined")
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            jobs = [
                pool.submit(self._run, [*common, "-c", str(c), "-o", str(o)], c, environment)
                for c, o in zip(self.sources, objects, strict=True)
            ]
            for done, job in enumerate(jobs, 1):
                job.result()
                self.cache.progress(f"compiling the {self.name}", done / (len(jobs) + 1))
        program = directory / self.name
        # Stripped: names and paths of one build would make its digest differ from another's.
        link = [*common, "-s", *map(str, objects), "-o", str(program)]
        self._run(link, program, environment)
        program.chmod(0o755)
        for path in objects:
            path.unlink()
        shutil.rmtree(directory / "zig", ignore_errors=True)

    def _run(self, argv: list[str], file: Path, environment: Mapping[str, str]) -> None:
        try:
            done = subprocess.run(
                argv,
                capture_output=True,
                text=True,
                errors="replace",
                env=environment,
                stdin=subprocess.DEVNULL,
                timeout=_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise BackendError(
                f"The compiler {argv[0]} did not finish {file.name} in {_TIMEOUT:.0f} s.",
                remedy="Try another compiler with the variable CC.",
            ) from None
        if done.returncode == 0:
            return
        if "No space left on device" in done.stderr:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        shown = "\n".join(_first_errors(done.stderr))
        if _NO_LIBC.search(done.stderr):
            raise _Incomplete(
                f"The compiler {argv[0]} cannot build a static C program: {shown}",
                remedy="Install the C library's headers, on Debian: apt install libc6-dev.",
            )
        what = "linked" if file.name == self.name else f"compiled: {file}"
        raise BackendError(
            f"The {self.name} cannot be {what}:\n{shown}\n",
            remedy="Mend the file; when it is a plugin's, REFBENCH_DISABLE_PLUGINS leaves it out.",
        )


def _first_errors(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for index, line in enumerate(lines):
        if "error" in line or "undefined reference" in line or "multiple definition" in line:
            return lines[index : index + _SHOWN_LINES]
    return lines[:_SHOWN_LINES]


def _no_compiler(arch: str) -> BackendError:
    packages = "gcc libc6-dev" if arch == host_arch() else _DEBIAN[arch]
    return BackendError(
        f"There is no C compiler for {arch}, and the agent that measures has to be built once.",
        remedy=f"Install one: apt install {packages}, or pip install 'refbench[zig]'.",
    )
