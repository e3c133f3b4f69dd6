"""How options of targets, mechanisms and workloads are shown, and whether something works."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from rich.text import Text

from refbench.grammar import Option, Value, format_size


class OptionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An :class:`~refbench.grammar.Option` as JSON."""

    name: str
    kind: str
    default: Value | None
    required: bool
    help: str
    choices: tuple[str, ...]
    minimum: int | None
    maximum: int | None


def records(options: Iterable[Option]) -> tuple[OptionRecord, ...]:
    """Options as JSON."""
    return tuple(
        OptionRecord(
            name=option.name,
            kind=option.kind,
            default=option.default,
            required=option.default is None,
            help=option.help,
            choices=option.choices,
            minimum=option.minimum,
            maximum=option.maximum,
        )
        for option in options
    )


def lines(options: Sequence[Option]) -> str:
    """Options as text, one a line: ``block=1  pages of a block``."""
    return "\n".join(f"{_default(option)}  {_help(option)}" for option in options)


def yes_or_no(ok: bool) -> Text:
    """Whether something works here."""
    return Text("yes", style="green") if ok else Text("no", style="yellow")


def _default(option: Option) -> str:
    value = option.default
    if value is None:
        return f"{option.name}=..."
    if isinstance(value, bool):
        return f"{option.name}={'yes' if value else 'no'}"
    if option.kind == "size" and isinstance(value, int):
        return f"{option.name}={format_size(value)}"
    return f"{option.name}={value}"


def _help(option: Option) -> str:
    return f"{option.help} ({', '.join(option.choices)})" if option.choices else option.help
