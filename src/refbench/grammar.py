"""The one grammar of refbench: ``name:key=value,key=value``.

Targets, mechanisms and workloads are all written in it, on the command line and in files.
A key without ``=value`` is a switch that is on; a backslash takes the next character as it is.
What the keys of a name mean is declared by :class:`Option`, and :func:`resolve` turns the text
into checked values, so that every wrong name, key or value gets the same kind of answer.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from refbench.errors import UsageError

Value = int | str | bool
Kind = Literal["int", "size", "bool", "choice", "path", "text"]

_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_.][a-z0-9]+)*\Z")
_SIZE = re.compile(r"(-?\d+(?:\.\d+)?)\s*([A-Za-z]*)\Z")
_UNITS = {
    "": 1, "b": 1,
    "k": 1 << 10, "kb": 1 << 10, "kib": 1 << 10,
    "m": 1 << 20, "mb": 1 << 20, "mib": 1 << 20,
    "g": 1 << 30, "gb": 1 << 30, "gib": 1 << 30,
    "t": 1 << 40, "tb": 1 << 40, "tib": 1 << 40,
}  # fmt: skip
_TRUE = {"yes", "true", "on", "1"}
_FALSE = {"no", "false", "off", "0"}


@dataclass(frozen=True, slots=True)
class Spec:
    """A name with its options as text, e.g. ``memfd:block=16``; hashable, ordered by key."""

    name: str
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str, *, what: str = "name") -> Spec:
        """Read ``text``; ``what`` is the word for it in errors (target, mechanism, workload).

        :raises UsageError: when the text does not follow the grammar.
        """
        name, _, rest = text.strip().partition(":")
        if not _NAME.match(name):
            raise UsageError(
                f"The {what} {text!r} does not start with a name.",
                remedy=f"Write a {what} as name:key=value,key=value with a lower-case name.",
            )
        options: dict[str, str] = {}
        for item in _split(rest):
            key, equals, value = item.partition("=")
            key = key.strip()
            if not _NAME.match(key):
                raise UsageError(
                    f"The {what} {text!r} has {item!r} where an option is expected.",
                    remedy="Write options as key=value, separated by commas.",
                )
            if key in options:
                raise UsageError(
                    f"The {what} {text!r} gives the option {key!r} twice.",
                    remedy="Give it once.",
                )
            options[key] = value.strip() if equals else "yes"
        return cls(name, tuple(sorted(options.items())))

    @classmethod
    def of(cls, name: str, **options: object) -> Spec:
        """Build one from Python values."""
        return cls(name, tuple(sorted((key, _text(value)) for key, value in options.items())))

    def with_options(self, extra: Mapping[str, str]) -> Spec:
        """The same name with ``extra`` put over the options that are there."""
        return Spec(self.name, tuple(sorted({**dict(self.options), **extra}.items())))

    def get(self, key: str, default: str = "") -> str:
        """The text of one option."""
        return dict(self.options).get(key, default)

    def __str__(self) -> str:
        if not self.options:
            return self.name
        return self.name + ":" + ",".join(f"{k}={_escape(v)}" for k, v in self.options)


@dataclass(frozen=True, slots=True)
class Option:
    """One declared option of a target, mechanism or workload.

    ``default`` of ``None`` means that the option must be given. ``minimum`` and ``maximum``
    bound ``int`` and ``size`` values; ``multiple`` asks for a multiple of it.
    """

    name: str
    kind: Kind
    default: Value | None
    help: str
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    multiple: int = 1


@dataclass(frozen=True, slots=True)
class Values:
    """Checked option values, asked for by type."""

    values: Mapping[str, Value] = field(default_factory=dict)

    def integer(self, key: str) -> int:
        """An ``int`` or ``size`` option (sizes in bytes)."""
        value = self.values[key]
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"option {key!r} is not a number")
        return value

    def text(self, key: str) -> str:
        """A ``choice``, ``path`` or ``text`` option."""
        value = self.values[key]
        if not isinstance(value, str):
            raise TypeError(f"option {key!r} is not text")
        return value

    def switch(self, key: str) -> bool:
        """A ``bool`` option."""
        value = self.values[key]
        if not isinstance(value, bool):
            raise TypeError(f"option {key!r} is not a switch")
        return value


def parse_size(text: str) -> int:
    """Bytes from ``65536``, ``64KiB``, ``64k``, ``1.5GiB``; units are powers of 1024.

    :raises ValueError: when the text is no size or not a whole number of bytes.
    """
    match = _SIZE.match(text.strip())
    if not match or match[2].lower() not in _UNITS:
        raise ValueError(f"{text!r} is not a size")
    value = float(match[1]) * _UNITS[match[2].lower()]
    if "." not in match[1]:
        return int(match[1]) * _UNITS[match[2].lower()]
    if value != int(value):
        raise ValueError(f"{text!r} is not a whole number of bytes")
    return int(value)


def format_size(size: float) -> str:
    """Bytes in the largest binary unit that keeps the text exact, else with two decimals."""
    for unit, scale in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if abs(size) >= scale:
            number = size / scale
            return f"{int(number)}{unit}" if number == int(number) else f"{number:.2f}{unit}"
    return f"{size:.0f}B" if size == int(size) else f"{size:.2f}B"


def suggest(name: str, known: Iterable[str]) -> str:
    """The remedy for an unknown name: the closest known one, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"Did you mean {close[0]!r}? Known: {', '.join(names)}."
    return f"Known: {', '.join(names)}." if names else "There are none."


def resolve(spec: Spec, declared: Sequence[Option], *, what: str) -> Values:
    """The values of ``spec`` under its declaration, defaults filled in.

    :raises UsageError: for an unknown key, a value of the wrong kind or out of bounds, and a
        missing option without a default.
    """
    given = dict(spec.options)
    known = {option.name: option for option in declared}
    for key in given:
        if key not in known:
            raise UsageError(
                f"The {what} {spec.name!r} has no option {key!r}.", remedy=suggest(key, known)
            )
    values: dict[str, Value] = {}
    for option in declared:
        if option.name in given:
            values[option.name] = _convert(spec, option, given[option.name], what)
        elif option.default is None:
            raise UsageError(
                f"The {what} {spec.name!r} needs the option {option.name!r}: {option.help}.",
                remedy=f"Write {spec.name}:{option.name}=...",
            )
        else:
            values[option.name] = option.default
    return Values(values)


def canonical(spec: Spec, declared: Sequence[Option], *, what: str) -> Spec:
    """``spec`` with every value in its normal spelling, so that equal things compare equal.

    Only options that differ from their default are kept.
    """
    values = resolve(spec, declared, what=what).values
    return Spec(
        spec.name,
        tuple(
            sorted(
                (option.name, _spell(option, values[option.name]))
                for option in declared
                if values[option.name] != option.default
            )
        ),
    )


def _convert(spec: Spec, option: Option, text: str, what: str) -> Value:
    where = f"The option {option.name!r} of the {what} {spec.name!r}"
    if option.kind == "bool":
        if text.lower() in _TRUE:
            return True
        if text.lower() in _FALSE:
            return False
        raise UsageError(f"{where} is a switch, not {text!r}.", remedy="Write yes or no.")
    if option.kind == "choice":
        if text not in option.choices:
            raise UsageError(f"{where} cannot be {text!r}.", remedy=suggest(text, option.choices))
        return text
    if option.kind in ("path", "text"):
        return text
    try:
        number = parse_size(text) if option.kind == "size" else int(text, 0)
    except ValueError:
        raise UsageError(
            f"{where} is {'a size' if option.kind == 'size' else 'a whole number'}, not {text!r}.",
            remedy="Write for example 64MiB." if option.kind == "size" else "Write for example 16.",
        ) from None
    if option.minimum is not None and number < option.minimum:
        raise UsageError(
            f"{where} is {text}, below the least that makes sense.",
            remedy=f"Give at least {_spell(option, option.minimum)}.",
        )
    if option.maximum is not None and number > option.maximum:
        raise UsageError(
            f"{where} is {text}, above the most that is possible.",
            remedy=f"Give at most {_spell(option, option.maximum)}.",
        )
    if number % option.multiple:
        raise UsageError(
            f"{where} is {text}, which is not a multiple of {_spell(option, option.multiple)}.",
            remedy=f"Round it to a multiple of {_spell(option, option.multiple)}.",
        )
    return number


def _spell(option: Option, value: Value) -> str:
    if option.kind == "size" and isinstance(value, int) and "." not in format_size(value):
        return format_size(value)
    return _text(value)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,")


def _split(text: str) -> list[str]:
    items = [""]
    characters = iter(text)
    for character in characters:
        if character == "\\":
            items[-1] += next(characters, "")
        elif character == ",":
            items.append("")
        else:
            items[-1] += character
    return [item for item in items if item.strip()]
