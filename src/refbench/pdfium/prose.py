"""The text of the generated manual: sentences in the manner of an architecture reference.

Every word comes from a stated generator, so that the same page has the same text on every
machine and under every version of Python. The architecture does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Self, TypeVar

T = TypeVar("T")
_ARTICLE = re.compile(r"\b([Aa])(?= [aeio])")
_MASK = (1 << 64) - 1


class Numbers:
    """The generator splitmix64 (Steele, Lea and Flood, OOPSLA 2014)."""

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    @classmethod
    def of(cls, *parts: int) -> Self:
        """A generator of its own for every tuple of numbers."""
        seed = 0
        for part in parts:
            seed = cls(seed ^ part).next()
        return cls(seed)

    def next(self) -> int:
        """64 bits."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & _MASK
        return z ^ z >> 31

    def below(self, bound: int) -> int:
        """A number from 0 to ``bound - 1``."""
        return self.next() % bound

    def among(self, things: Sequence[T]) -> T:
        """One of ``things``."""
        return things[self.below(len(things))]


UNITS = (
    "translation unit", "load queue", "exception vector", "granule table", "write buffer",
    "walk cache", "barrier domain", "tag store", "prefetch stream", "timer frame",
    "interrupt router", "trace buffer", "performance monitor", "memory port", "debug agent",
)  # fmt: skip
STATES = (
    "unknown", "stale", "held", "shared", "exclusive", "invalid", "pending", "masked",
    "accessible", "reserved", "suspended", "ordered", "cacheable", "unpredictable",
)  # fmt: skip
ACTIONS = (
    "invalidates", "replays", "discards", "orders", "forwards", "retires", "samples", "locks",
    "translates", "observes", "merges", "traps", "checks", "completes", "reserves",
)  # fmt: skip
THINGS = (
    "descriptor", "access", "entry", "request", "store", "load", "fault record", "granule",
    "address range", "barrier", "tag", "snapshot", "counter event", "walk", "context",
    "instruction", "page table entry", "reference page", "exclusive monitor",
)  # fmt: skip
KINDS = (
    "speculative", "outer", "privileged", "secure", "aligned", "device", "normal", "atomic",
    "non-temporal", "hardware-managed", "first-level", "stage 2", "implicit", "banked",
)  # fmt: skip
EVENTS = (
    "a Translation fault", "a Permission fault", "an Alignment fault", "an External abort",
    "a Tag Check fault", "an Undefined exception", "a Watchpoint event", "a System trap",
)  # fmt: skip
_PREFIXES = (
    "TBR", "MSC", "XCR", "FAR", "VTC", "GPC", "HTR", "PMX", "DBG", "SPS", "ICH", "RGN", "TFS",
)  # fmt: skip
_FIELDS = (
    "EN", "TG", "SH", "ORGN", "IRGN", "ASZ", "PS", "A1", "NFD", "HPD", "TCMA", "DS", "WXN",
    "EOE", "SED", "ITD", "UMA", "NAA", "LSE", "ATA", "TBI", "RES0", "RES1", "MASK", "TYPE",
)  # fmt: skip
_TEXT = """\
If the {kind} {unit} {action} a {thing} while `{field}` is {bits}, the {thing2} is *{state}* and
{event} is reported to level {level}.

A {kind} {thing} that the {unit} {action} must not be observed before every earlier {thing2} is
{state}, unless a `{barrier}` separates the two.

When `{register}` holds {hex}, software **must** treat the {kind} {thing} as *{state}*, whatever
the {unit} last returned for it.

The {unit} {action} at most {count} {kind} {things}; any further {thing} is {state} until
`{field}` reads as {bits}.

See also *{title}* on page {page}, which describes how the {unit} {action} a {thing} at level
{level}, and Table {count} for the {kind} cases.

It is IMPLEMENTATION DEFINED whether the {unit} {action} a {kind} {thing} when {event} is
{state}; `{register}` then holds the address of the {thing2}.

On a reset to level {level}, `{field}` is {bits} and each {kind} {thing} is *{state}*.

An access to `{register}` from level {level} generates {event}, except where `{field}` permits
the {kind} {thing}.

**Note:** the {unit} {action} the {thing} in {count} cycles where the {thing2} is {state}; this
manual does not otherwise constrain its timing.

For each {kind} {thing}, bits [{high}:{low}] of `{register}` select the {unit} that {action} it,
and the remaining bits are {state}.

The rules of this section apply to {kind} {things} and to the {thing2} that the {unit} {action};
they do not apply while the {unit2} is *{state}*.

Where {event} and a {kind} {thing} have the same priority, the {unit} {action} the one whose
`{field}` was written last.
"""
_TEMPLATES = tuple(" ".join(block.split()) for block in _TEXT.split("\n\n"))
_TITLES = (
    "{Kind} {things} and the {unit}", "Ordering of {kind} {things}", "`{register}`, {Unit} Control",
    "How the {unit} {action} a {thing}", "Reset of the {unit}", "{Event} at level {level}",
    "Restrictions on {kind} {things}", "The {state} state of a {thing}", "{Unit} identification",
)  # fmt: skip


def register(numbers: Numbers) -> str:
    """The name of a register: ``GPC4R_EL2``."""
    return f"{numbers.among(_PREFIXES)}{numbers.below(10)}R_EL{numbers.below(4)}"


def field(numbers: Numbers) -> str:
    """The name of a field of a register."""
    return numbers.among(_FIELDS)


def _filled(template: str, numbers: Numbers) -> str:
    low = numbers.below(56)
    words = {
        "kind": numbers.among(KINDS),
        "unit": numbers.among(UNITS),
        "unit2": numbers.among(UNITS),
        "action": numbers.among(ACTIONS),
        "thing": numbers.among(THINGS),
        "thing2": numbers.among(THINGS),
        "state": numbers.among(STATES),
        "event": numbers.among(EVENTS),
        "register": register(numbers),
        "bits": f"0b{numbers.below(16):04b}",
        "hex": f"0x{numbers.next():016X}",
        "level": f"EL{numbers.below(4)}",
        "barrier": numbers.among(("DSB SY", "DMB ISH", "ISB", "SSBB", "PSSBB", "TSB CSYNC")),
        "count": str(2 + numbers.below(62)),
        "page": str(14 + numbers.below(106)),
        "high": str(low + 1 + numbers.below(8)),
        "low": str(low),
    }
    words["things"] = _plural(words["thing"])
    words["field"] = f"{words['register']}.{field(numbers)}"
    words["title"] = f"{words['kind']} {words['thing2']}s and the {words['unit2']}"
    words |= {name.capitalize(): words[name].capitalize() for name in ("kind", "unit", "event")}
    return _ARTICLE.sub(r"\1n", template.format_map(words))


def _plural(thing: str) -> str:
    if thing.endswith("y"):
        return thing[:-1] + "ies"
    return thing + ("es" if thing.endswith("s") else "s")


def sentence(numbers: Numbers) -> str:
    """One sentence, with marks that :func:`marked_words` takes off again."""
    return _filled(numbers.among(_TEMPLATES), numbers)


def paragraph(numbers: Numbers, sentences: int) -> str:
    """Some sentences."""
    return " ".join(sentence(numbers) for _ in range(sentences))


def title(numbers: Numbers) -> str:
    """A heading, without marks."""
    return _filled(numbers.among(_TITLES), numbers).replace("`", "")


def marked_words(text: str) -> Iterator[tuple[str, str]]:
    """The words of a text in their order, each with its style: ``code`` between backticks,
    ``emphasis`` between stars, ``strong`` between double stars, else ``plain``."""
    style = "plain"
    for word in text.split():
        rest, closing = word, ""
        for mark, name in (("**", "strong"), ("*", "emphasis"), ("`", "code")):
            if rest.startswith(mark):
                rest, style = rest.removeprefix(mark), name
            if mark in rest:
                before, _, after = rest.partition(mark)
                rest, closing = before + after, name
                break
        yield rest, style
        if closing:
            style = "plain"


def pseudocode(numbers: Numbers, lines: int) -> Iterator[str]:
    """Lines of a function of the architecture's own language."""
    name = numbers.among(("Translate", "CheckTag", "WalkTable", "RouteEvent", "MergeStore"))
    yield f"// {sentence(numbers).replace('`', '').replace('*', '')[:84]}"
    yield f"{name}{numbers.below(90)}(bits(64) address, integer level, boolean {register(numbers)})"
    depth = 1
    for index in range(lines - 4):
        indent = "    " * depth
        match numbers.below(6):
            case 0 if depth < 4:
                yield f"{indent}if {register(numbers)}.{field(numbers)} == '1' then"
                depth += 1
            case 1 if depth < 4:
                yield f"{indent}for i = 0 to {3 + numbers.below(60)}"
                depth += 1
            case 2 if depth > 1:
                yield f"{indent}return ZeroExtend(address<{20 + numbers.below(40)}:{index}>, 64);"
                depth -= 1
            case 3:
                yield f"{indent}assert level IN {{{numbers.below(2)},2,3}};  // {field(numbers)}"
            case 4:
                name = field(numbers).lower()
                yield f"{indent}{name} = Mem[address + {8 * numbers.below(64)}, 8];"
            case _:
                value = f"{numbers.next():016x}"
                yield f"{indent}{register(numbers)}<{8 + index}:{index}> = Not('{value}') AND mask;"
    yield "    return address;"
