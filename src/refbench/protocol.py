"""What the agent says, read strictly. The protocol is described in docs/program-format.md."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from refbench.backend import Answer
from refbench.errors import CellError, Crashed, KernelFault, LimitHit, NoAnswer
from refbench.samples import Failure, Sample

_END = re.compile(r"end rc=(\d+) sha256=([0-9a-f]{64})\Z")
_KINDS = {"unsupported", "limit-hit", "wrong-content", "usage", "crashed"}
_SHOWN_LINES = 20
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentInfo:
    """The agent's first line: what it is and where it runs."""

    version: str
    arch: str
    page_size: int
    kernel: str
    cpu: int
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MechanismInfo:
    """One line of ``--probe``."""

    name: str
    ok: bool
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spent:
    ns: int


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that one agent process said."""

    agent: AgentInfo
    samples: tuple[Sample, ...] = ()
    mechanisms: tuple[MechanismInfo, ...] = ()
    failure: Failure | None = None
    spent_ns: int = 0


def decode(data: bytes, kind: type[T]) -> T:
    """A dataclass from JSON; a missing, unknown or mistyped field is an error.

    :raises ValueError: naming the field.
    """
    try:
        return convert(msgspec.json.decode(data), kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error


def convert(raw: object, kind: type[T]) -> T:
    """A dataclass from what JSON was decoded to; as strict as :func:`decode`.

    :raises ValueError: naming the field.
    """
    try:
        value = msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    if unknown := _unknown(raw, value, ""):
        raise ValueError(f"unknown field {unknown}")
    return value


@functools.cache
def _names(kind: type[Any]) -> frozenset[str]:
    return frozenset(item.name for item in dataclasses.fields(kind))


def _unknown(raw: Any, value: object, where: str) -> str:
    """The first key of ``raw`` that ``value``, decoded from it, has no field for."""
    if isinstance(raw, dict) and dataclasses.is_dataclass(value) and not isinstance(value, type):
        if extra := raw.keys() - _names(type(value)):
            return f"{where}{min(extra)}"
        parts = ((key, part, getattr(value, key)) for key, part in raw.items())
    elif isinstance(raw, dict) and isinstance(value, Mapping):
        parts = ((key, part, value[key]) for key, part in raw.items())
    elif isinstance(raw, list) and isinstance(value, Sequence):
        parts = ((str(i), part, value[i]) for i, part in enumerate(raw))
    else:
        return ""
    for key, part, inner in parts:
        if isinstance(part, (dict, list)) and (found := _unknown(part, inner, f"{where}{key}.")):
            return found
    return ""


def parse(answer: Answer, *, samples: int | None = None) -> Report:
    """The report in an answer of a channel.

    ``samples`` is how many must be there when the agent says that all went well.

    :raises NoAnswer: when the end record is missing or does not match what came before it.
    :raises Crashed: when the agent ended by a signal of its own doing, or the record is broken.
    """
    lines = answer.stdout
    end = _END.match(lines[-1]) if lines else None
    if end is None:
        raise _without_end(answer)
    said = "".join(line + "\n" for line in lines[:-1]).encode(errors="surrogateescape")
    if hashlib.sha256(said).hexdigest() != end[2]:
        raise NoAnswer("The agent's output was changed or cut on its way.", remedy=_look(answer))
    report = _report(lines[:-1], answer)
    rc = int(end[1])
    if (rc == 0) != (report.failure is None):
        raise _broken(f"it ended with rc={rc}, which does not go with what it said", answer)
    if rc == 0 and samples is not None:
        indices = [sample.index for sample in report.samples]
        if indices != list(range(samples)):
            raise _broken(f"{samples} samples were asked for, it sent {indices}", answer)
    return report


def _report(lines: Sequence[str], answer: Answer) -> Report:
    reader = _Reader()
    for number, line in enumerate(lines, 1):
        try:
            raw = msgspec.json.decode(line)
            reader.take(raw.pop("type"), raw)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise _broken(f"line {number}: {error}", answer) from None
    if reader.agent is None:
        raise _broken("it did not say who it is", answer)
    return Report(
        reader.agent,
        tuple(reader.samples),
        tuple(reader.mechanisms),
        reader.failure,
        reader.spent_ns or 0,
    )


class _Reader:
    """Collects the lines' records, each where it may stand."""

    def __init__(self) -> None:
        self.agent: AgentInfo | None = None
        self.samples: list[Sample] = []
        self.mechanisms: list[MechanismInfo] = []
        self.failure: Failure | None = None
        self.spent_ns: int | None = None

    def take(self, kind: str, raw: object) -> None:
        """:raises ValueError: for a record that is wrong or out of place."""
        if self.spent_ns is not None or (self.agent is None) != (kind == "agent"):
            raise ValueError(f"a line of type {kind!r} does not belong here")
        match kind:
            case "agent":
                self.agent = convert(raw, AgentInfo)
            case "sample":
                self.samples.append(convert(raw, Sample))
            case "mechanism":
                self.mechanisms.append(convert(raw, MechanismInfo))
            case "failure" if self.failure is None:
                self.failure = convert(raw, Failure)
                if self.failure.kind not in _KINDS:
                    raise ValueError(f"unknown failure {self.failure.kind!r}")
            case "spent":
                self.spent_ns = convert(raw, _Spent).ns
            case _:
                raise ValueError(f"a line of type {kind!r} does not belong here")


def _without_end(answer: Answer) -> CellError:
    if answer.deadline_passed:
        return NoAnswer(
            "The agent did not finish before its deadline.",
            remedy="Give it more time, fewer iterations or a smaller size.",
        )
    if answer.signal == signal.SIGKILL:
        return NoAnswer("The agent was killed from outside.", remedy=_look(answer))
    if answer.signal:
        name = _signal_name(answer.signal)
        return Crashed(f"The agent was ended by {name}.", remedy=_look(answer))
    if answer.returncode:
        return Crashed(
            f"The agent ended with status {answer.returncode} without its end record.",
            remedy=_look(answer),
        )
    return NoAnswer("The agent's end record did not arrive.", remedy=_look(answer))


def _broken(what: str, answer: Answer) -> Crashed:
    return Crashed(f"The agent's record is broken: {what}.", remedy=_look(answer))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _look(answer: Answer) -> str:
    if answer.stderr:
        return "Its standard error is kept with the run."
    return "It said nothing on standard error; the kernel log may tell more."


def failure_of(error: CellError, log: Sequence[str] = ()) -> Failure:
    """An error of a cell in the words of the journal."""
    wanted, limit = (error.wanted, error.limit) if isinstance(error, LimitHit) else (0, 0)
    shown = log[-_SHOWN_LINES:]
    if isinstance(error, KernelFault):
        # The first line says what it was; the guard has kept as much as there is to a report.
        shown = error.log
    return Failure(
        kind=error.kind,
        message=error.message,
        remedy=error.remedy,
        wanted=wanted,
        limit=limit,
        log=tuple(shown),
    )
