"""Cost tables in files: the one that comes with refbench, those of ``refbench calibrate``.

TOML. ``[origin]`` and ``[error]`` hold the fields of the classes of those names, ``[ns]`` the
cost of every event by its name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import platformdirs

from refbench.errors import StorageError, UsageError
from refbench.grammar import suggest
from refbench_simulator.costs import Costs, Error, Origin
from refbench_simulator.model.events import Event

FORMAT = 1
"""Of a table; a reader refuses another."""
DEFAULT = "default"
"""The table that comes with refbench."""
_RESOURCE = "costs.toml"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*\Z")
_AGAIN = "`refbench calibrate` writes one that is right."


def directory() -> Path:
    """Where tables are kept by name: ``refbench/costs`` in the user's data directory (XDG)."""
    return Path(platformdirs.user_data_dir("refbench")) / "costs"


def names() -> tuple[str, ...]:
    """The names of the tables that are kept, and of the one that comes with refbench."""
    kept = sorted(path.stem for path in directory().glob("*.toml"))
    return (DEFAULT, *(name for name in kept if name != DEFAULT))


def place(name: str) -> Path:
    """The file of a table that is kept under ``name``.

    :raises UsageError: for what can be no name.
    """
    if not _NAME.match(name) or name == DEFAULT:
        raise UsageError(
            f"A cost table cannot be kept under the name {name!r}.",
            remedy="Take a name of lower-case letters, digits, dots and dashes that is not "
            f"{DEFAULT!r}, or give a file's path.",
        )
    return directory() / f"{name}.toml"


def find(text: str) -> Costs:
    """The table that the target's option ``costs`` means: ``default``, a name, or a path.

    What ends in ``.toml`` or has a separator in it is a path.

    :raises UsageError: when there is none, or it is no cost table.
    """
    if text == DEFAULT:
        return default()
    if text.endswith(".toml") or os.sep in text or "/" in text:
        return load(Path(text).expanduser())
    file = directory() / f"{text}.toml"
    if not file.is_file():
        raise UsageError(
            f"There is no cost table {text!r}.",
            remedy=f"{suggest(text, names())} `refbench calibrate --save {text}` would make it; "
            "a path ends in .toml.",
        )
    return load(file)


def default() -> Costs:
    """The table that comes with refbench."""
    file = resources.files("refbench_simulator").joinpath(_RESOURCE)
    return parse(file.read_text(encoding="utf-8"), DEFAULT, "The table of refbench")


def load(path: Path) -> Costs:
    """A table from a file; its name is the file's.

    :raises UsageError: when it cannot be read or is no cost table.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(
            f"The cost table {path} cannot be read: {why}.", remedy=f"Give another. {_AGAIN}"
        ) from None
    return parse(text, path.stem, str(path))


def save(costs: Costs, path: Path) -> None:
    """Write a table; one that is there is replaced as a whole.

    :raises StorageError: when it cannot be written.
    """
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        half.write_text(dump(costs), encoding="utf-8", newline="\n")
        half.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            half.unlink()
        raise StorageError(
            f"The cost table {path} cannot be written: {error.strerror}.",
            remedy="Choose another place with --save.",
        ) from None


def dump(costs: Costs) -> str:
    """The text of a table, from which :func:`parse` makes an equal one."""
    lines = [
        "# What work costs, for refbench's simulator: simulator:costs=THIS-FILE.",
        f"format = {FORMAT}",
        f"assumed = {json.dumps(sorted(event.value for event in costs.assumed))}",
    ]
    for name, record in (("origin", costs.origin), ("error", costs.error)):
        lines += ["", f"[{name}]"]
        for field in dataclasses.fields(record):
            # JSON's numbers and strings are TOML's too.
            lines.append(f"{field.name} = {json.dumps(getattr(record, field.name))}")
    lines += ["", "[ns]"]
    lines += [f"{event.value} = {costs.ns[event]!r}" for event in Event]
    return "\n".join(lines) + "\n"


def parse(text: str, name: str, source: str) -> Costs:
    """The table in ``text``; ``source`` names it in errors.

    :raises UsageError: when it is none, naming the key that is wrong.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as damage:
        raise UsageError(f"{source} is no cost table: {damage}.", remedy=_AGAIN) from None
    if table.get("format") != FORMAT:
        raise UsageError(
            f"{source} is no cost table of format {FORMAT}, which this refbench reads.",
            remedy=_AGAIN,
        )
    _only(table, ("format", "assumed", "origin", "error", "ns"), source)
    origin = Origin(**_fields(table, "origin", Origin, source))
    error = Error(**_fields(table, "error", Error, source))
    if origin.page_size <= 0:
        raise _wrong(source, "origin.page_size")
    return Costs(name, _ns(table, source), origin, error, _assumed(table, source))


def _ns(table: Mapping[str, Any], source: str) -> dict[Event, float]:
    found = _table(table, "ns", source)
    _only(found, [event.value for event in Event], f"[ns] of {source}")
    costs = {}
    for event in Event:
        value = found.get(event.value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
            raise _wrong(source, f"ns.{event.value}")
        costs[event] = float(value)
    return costs


def _assumed(table: Mapping[str, Any], source: str) -> frozenset[Event]:
    try:
        return frozenset(Event(value) for value in table["assumed"])
    except (KeyError, TypeError, ValueError):
        raise _wrong(source, "assumed") from None


def _fields(table: Mapping[str, Any], key: str, cls: type, source: str) -> dict[str, Any]:
    found = _table(table, key, source)
    kinds = {field.name: field.type for field in dataclasses.fields(cls)}
    _only(found, kinds, f"[{key}] of {source}")
    accepted = {"str": (str,), "int": (int,), "float": (int, float)}
    for name, kind in kinds.items():
        value = found.get(name)
        if isinstance(value, bool) or not isinstance(value, accepted[str(kind)]):
            raise _wrong(source, f"{key}.{name}")
    return dict(found)


def _table(table: Mapping[str, Any], key: str, source: str) -> Mapping[str, Any]:
    found = table.get(key)
    if not isinstance(found, dict):
        raise _wrong(source, key)
    return found


def _only(found: Mapping[str, Any], known: Any, source: str) -> None:
    for key in found:
        if key not in known:
            raise UsageError(f"{source} has an unknown key {key!r}.", remedy=suggest(key, known))


def _wrong(source: str, key: str) -> UsageError:
    return UsageError(
        f"The cost table {source} has no {key}, or one that makes no sense.",
        remedy=f"It may be older than this refbench. {_AGAIN}",
    )
