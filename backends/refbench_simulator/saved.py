"""Saved machines: a description in TOML, or the journal of what was measured on one."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path

from refbench import journal
from refbench.errors import StorageError, UsageError
from refbench.grammar import suggest
from refbench.journal import Content, SessionLine
from refbench.samples import Environment
from refbench.words import Clock
from refbench_simulator.knobs import Kernel
from refbench_simulator.machine import Machine
from refbench_simulator.settings import BY_NAME, KNOBS, knobs_of, parse, spell

FORMAT = 1
"""Of a description; a reader refuses another."""
_DESCRIPTION = "machine description"
_MOST_BYTES = 1 << 20
"""Of a description that are read: what is longer was never one."""
_WRITE_ONE = "`refbench machine --save FILE` writes one that is right."
_SAID = {
    "ksm": {"on for cells of ksm": "yes", "1": "yes", "0": "no", "2": "no"},
    "privileged": {"root": "yes", "ordinary": "no"},
}
"""What facts of a session mean as knobs, where the words are not the same."""
_UNKNOWN = {"", "not readable"}


def load(path: Path, session: int | None = None, without: Collection[str] = ()) -> Machine:
    """The machine that a file tells of: a description, a journal, or a run's directory.

    ``session`` chooses among the sessions of a journal that were not in equal surroundings;
    ``without`` names knobs of it that are not wanted.

    :raises UsageError: for what cannot be understood, naming the file and the key.
    :raises StorageError: for a journal that is damaged or cannot be read.
    """
    file = path / "journal.jsonl" if path.is_dir() else path
    try:
        with file.open("rb") as stream:
            data = stream.read(_MOST_BYTES)
    except OSError as error:
        raise UsageError(
            f"The saved machine {file} cannot be read: {error.strerror}.",
            remedy=f"Give a machine description or a journal. {_WRITE_ONE}",
        ) from None
    if data.startswith(b"{"):
        return _of_journal(file, journal.read(file), session, without)
    if session is not None:
        raise UsageError(
            f"The option 'session' chooses in a journal, and {file} is none.",
            remedy="Leave it out.",
        )
    return _of_description(file, data, without)


def save(kernel: Kernel, path: Path, name: str) -> None:
    """Write a description; ``name`` says in it whose knobs these are.

    :raises StorageError: when the file exists or cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(description(kernel, name))
    except FileExistsError:
        raise StorageError(
            f"{path} exists, and a machine description is never written over another file.",
            remedy="Choose another name, or remove it.",
        ) from None
    except OSError as error:
        raise StorageError(
            f"The machine description {path} cannot be written: {error.strerror}.",
            remedy="Choose another place.",
        ) from None


def description(kernel: Kernel, name: str) -> str:
    """A description in TOML; :func:`load` makes the same knobs of it."""
    heading = " ".join(name.split())
    lines = [f"# {heading}. Simulate it with simulator:from=THIS-FILE.", f"format = {FORMAT}", ""]
    lines.append("[machine]")
    for key, value in knobs_of(kernel).items():
        if isinstance(value, bool):
            text = "true" if value else "false"
        elif BY_NAME[key].option.kind == "int":
            text = str(value)
        else:
            text = f'"{spell(key, value)}"'
        lines.append(f"{key} = {text}")
    return "\n".join(lines) + "\n"


def _of_description(path: Path, data: bytes, without: Collection[str]) -> Machine:
    try:
        table = tomllib.loads(data.decode())
    except ValueError as error:
        raise UsageError(
            f"{path} is no machine description: {error}.",
            remedy=f"Give a machine description in TOML, or a journal. {_WRITE_ONE}",
        ) from None
    if table.get("format") != FORMAT:
        has = f"the format {table['format']!r}" if "format" in table else "no format"
        raise UsageError(
            f"The machine description {path} has {has}; this refbench reads format = {FORMAT}.",
            remedy=_WRITE_ONE,
        )
    machine = table.get("machine")
    if not isinstance(machine, dict):
        raise UsageError(
            f"The machine description {path} has no table [machine].", remedy=_WRITE_ONE
        )
    for key in table.keys() - {"format", "machine"}:
        raise UsageError(
            f"The machine description {path} has an unknown key {key!r}.",
            remedy=suggest(key, ("format", "machine")),
        )
    texts = {key: _text(path, key, value) for key, value in machine.items()}
    wanted = {key: text for key, text in texts.items() if key not in without}
    return Machine(str(path), parse(wanted, name=str(path), what=_DESCRIPTION))


def _text(path: Path, key: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (str, int)):
        return str(value)
    raise UsageError(
        f"The machine description {path} has {key} = {value!r}, which is neither text nor a whole "
        "number nor a switch.",
        remedy='Write for example page = "4KiB", own-vmas = 17 or ksm = true.',
    )


def _of_journal(
    path: Path, content: Content, session: int | None, without: Collection[str]
) -> Machine:
    found = [_of_session(path, content, line, without) for line in _sessions(path, content)]
    if session is not None:
        known = [line.session for line in content.sessions]
        if session not in known:
            raise UsageError(
                f"The journal {path} has no session {session}.",
                remedy=f"It has: {', '.join(map(str, known))}.",
            )
        return found[known.index(session)]
    if any(other.knobs != found[0].knobs for other in found):
        names = "; ".join(machine.name.rpartition(", ")[2] for machine in found)
        raise UsageError(
            f"The journal {path} was measured on machines that differ: {names}.",
            remedy="Add session=NUMBER to choose one.",
        )
    return found[0]


def _sessions(path: Path, content: Content) -> tuple[SessionLine, ...]:
    if not content.sessions:
        raise UsageError(
            f"The journal {path} has no session: nothing was measured.",
            remedy="Give the journal of a run that was.",
        )
    return content.sessions


def _of_session(
    path: Path, content: Content, line: SessionLine, without: Collection[str]
) -> Machine:
    texts = dict(_texts(line.environment))
    vmas = _own_vmas(content, line.session)
    if vmas is not None:
        texts["own-vmas"] = str(vmas)
    wanted = {key: text for key, text in texts.items() if key not in without}
    name = f"{path}, session {line.session} ({line.environment.target})"
    return Machine(name, parse(wanted, name=name, what="journal"))


def _texts(environment: Environment) -> Mapping[str, str]:
    """The knobs that a session's environment tells, as texts."""
    texts = {
        "kernel": environment.kernel,
        "arch": environment.arch,
        "page": str(environment.page_size),
    }
    for knob in KNOBS:
        said = environment.facts.get(knob.fact, "") if knob.fact else ""
        text = _SAID[knob.name].get(said, "") if knob.name in _SAID else said
        if text not in _UNKNOWN:
            texts[knob.name] = text
    # Of a real machine it is what there was, and no limit; see machine.this_machine().
    if environment.clock != Clock.MODELLED.value or texts.get("memory") == "unlimited":
        texts.pop("memory", None)
    return texts


def _own_vmas(content: Content, session: int) -> int | None:
    """What an agent had before it began, as its runs tell."""
    for line in content.runs:
        if line.session == session:
            for sample in line.run.samples:
                if "start" in sample.memory:
                    return sample.memory["start"].vmas
    return None
