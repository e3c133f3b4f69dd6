"""``python -m refbench.history``: record commits with asv, under a machine name of our choice.

asv measures and keeps the numbers; it has no place for what the numbers depend on besides the
machine. So this names the machine neutrally, runs ``asv run``, and then writes the environment
of every measured commit (kernel, settings, hashes of agent and compiler) to
``results/MACHINE/environments.jsonl``. Targets that give the same numbers on every machine are
recorded under a machine name of their own, about which nothing else is told.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import asv.machine
import click
import msgspec

from refbench import journal as journals
from refbench.asv import JOURNALS, TARGETS_VARIABLE, prepare
from refbench.errors import RefbenchError, StorageError, UsageError
from refbench.plugins import registry
from refbench.runner import open_target
from refbench.samples import Environment

RESULTS = Path("results")
ENVIRONMENTS = "environments.jsonl"
REFERENCE = "reference"
EVERYWHERE = {"qemu": "instructions", "simulator": "modelled"}
"""Targets whose numbers are the same wherever they are taken, and the machine that stands for
all of them: of :data:`TOOLS`, one for each set of tools."""
TOOLS = {"qemu": ("qemu", "kernel-source", "kernel-compiler", "compiler")}
"""What the numbers of such a target depend on besides the commit, as facts of its environment.
Their hash is a part of the machine's name: a history goes on where they are the same."""
_GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One line of ``environments.jsonl``: where the newest numbers of a commit come from."""

    commit: str
    started: str
    """UTC, ISO 8601."""
    environment: Environment


@click.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--machine",
    help="The name under which results are kept; never the host name. Default: reference,"
    " modelled for REFBENCH_TARGETS=simulator, instructions-HASH (of the tools) for qemu.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(machine: str | None, arguments: tuple[str, ...]) -> None:
    """Record commits with asv. ARGUMENTS go to `asv run`: a range such as HEAD~5..HEAD,
    --skip-existing-successful, and so on.
    """
    try:
        machine = machine_for(os.environ.get(TARGETS_VARIABLE) or "host", machine)
        introduce(machine)
        command = [sys.executable, "-m", "asv", "run", "--machine", machine, *arguments]
        status = subprocess.run(command, check=False).returncode
        kept = keep_environments(Path.cwd(), machine)
    except RefbenchError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    click.echo(f"{kept} environments in {RESULTS / machine / ENVIRONMENTS}")
    sys.exit(status)


def machine_for(targets: str, machine: str | None) -> str:
    """The machine under whose name the numbers of ``targets`` (commas between them) are kept.

    :raises UsageError: when their numbers do not belong together, or when ``machine`` is a name
        of another kind.
    :raises BackendError: when a target that depends on tools cannot be opened.
    """
    names = [target.strip() for target in targets.split(",")]
    kinds = {EVERYWHERE.get(name, "") for name in names}
    own = max(kinds)
    if len(kinds) > 1:
        raise UsageError(
            f"Of {targets}, some give the same numbers on every machine and some do not, or "
            "they count different things.",
            remedy=f"Record {' and '.join(EVERYWHERE)} apart: one history, a machine for each.",
        )
    if machine is not None and not own and not _stands_for_all(machine):
        return machine
    name = _named_after_tools(names[0], own) if names[0] in TOOLS else own or REFERENCE
    if machine not in {None, name}:
        raise UsageError(
            f"The results of {targets} do not belong to the machine {machine}.",
            remedy=f"Use --machine {name}.",
        )
    return name


def _stands_for_all(machine: str) -> bool:
    return machine.partition("-")[0] in EVERYWHERE.values()


def _named_after_tools(target: str, kind: str) -> str:
    prepare(target)
    _, session = open_target(registry(), target)
    with session:
        found = session.capabilities()
    return f"{kind}-{tools_digest(target, found.arch, found.environment)}"


def tools_digest(target: str, arch: str, facts: Mapping[str, str]) -> str:
    """Eight hexadecimal digits that are the same where all :data:`TOOLS` of a target are."""
    said = [arch, *(facts.get(name, "") for name in TOOLS[target])]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:8]


def introduce(machine: str) -> None:
    """Tell asv about the machine: architecture, processors and memory, nothing that names it.

    Of one that stands for all machines there is nothing to tell. asv keeps that in
    ``.asv-machine.json`` in the home directory; other entries stay.
    """
    if _stands_for_all(machine):
        facts = dict.fromkeys(("os", "arch", "cpu", "num_cpu", "ram"), "any")
        asv.machine.MachineCollection.save(machine, {"machine": machine, **facts})
        return
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    asv.machine.MachineCollection.save(
        machine,
        {
            "machine": machine,
            "os": platform.system(),
            "arch": platform.machine(),
            "cpu": platform.machine(),
            "num_cpu": str(os.cpu_count()),
            "ram": f"{max(1, round(memory / _GIB))} GiB",
        },
    )


def keep_environments(project: Path, machine: str) -> int:
    """Bring ``environments.jsonl`` up to date with the journals; the number of its lines.

    Only commits that asv has results of are kept, each target's newest environment.

    :raises StorageError: when the file cannot be read or written.
    """
    folder = project / RESULTS / machine
    path = folder / ENVIRONMENTS
    have = {result.name.partition("-")[0] for result in folder.glob("*-*.json")}
    newest: dict[tuple[str, str], Recorded] = {}
    for line in (*_kept(path), *_journaled(project / JOURNALS)):
        if any(line.commit.startswith(commit) for commit in have):
            newest[line.commit, line.environment.target] = line
    if newest:
        lines = sorted(newest.values(), key=lambda line: (line.started, line.environment.target))
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            partial.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
            partial.replace(path)
        except OSError as error:
            raise StorageError(
                f"{path} cannot be written: {error.strerror}.",
                remedy="Make it writable and run the command again: the journals are kept.",
            ) from None
    return len(newest)


def _kept(path: Path) -> Iterator[Recorded]:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    for number, line in enumerate(lines, 1):
        try:
            yield msgspec.json.decode(line, type=Recorded)
        except msgspec.DecodeError as error:
            raise StorageError(
                f"{path}, line {number}, is damaged: {error}.",
                remedy="Restore the file from the repository.",
            ) from None


def _journaled(folder: Path) -> Iterable[Recorded]:
    for path in sorted(folder.glob("*.jsonl")):
        commit = path.stem.split("-")[1]
        content = journals.read(path)
        for session in content.sessions:
            yield Recorded(
                commit=commit,
                started=content.header.started,
                environment=published(session.environment),
            )


def published(environment: Environment) -> Environment:
    """What may be published of an environment: the kernel's release without its local part,
    which names whose build it is (``6.12.9-mybox`` becomes ``6.12.9``)."""
    release = re.match(r"[0-9.]*[0-9]", environment.kernel)
    return replace(environment, kernel=release[0] if release else "")


if __name__ == "__main__":
    main()
