"""A program from its text. See docs/program-format.md.

The agent parses the same format in C; both refuse what they do not know, so that a file of a
later version never runs as something else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

from refbench.errors import UsageError
from refbench.program import executing
from refbench.program import steps as s
from refbench.program.writer import HEADER

MAX_DEPTH = 16
MAX_REGIONS = 1 << 20
_LABEL = re.compile(r"[a-z][a-z0-9-]{0,30}\Z")
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


def parse(
    text: str, *, source: str = "program", files: Mapping[str, Path] | None = None
) -> s.Program:
    """The program in a text. ``files``: where those are that its ``file`` lines name.

    :raises UsageError: naming ``source`` and the line.
    """
    return _Parser(text, source, files or {}).program()


class _Parser:
    """Recursive descent over lines; ``self.at`` is the line that errors name."""

    def __init__(self, text: str, source: str, files: Mapping[str, Path]) -> None:
        self.source = source
        self.files = files
        self.at = 0
        stripped = ((i, line.split("#")[0].split()) for i, line in enumerate(text.splitlines(), 1))
        self.lines = [(i, words) for i, words in stripped if words]
        self.next = 0

    def fail(self, message: str) -> UsageError:
        return UsageError(
            f"{self.source}, line {self.at}: {message}.",
            remedy="docs/program-format.md describes every step.",
        )

    def take(self) -> list[str] | None:
        if self.next == len(self.lines):
            return None
        self.at, words = self.lines[self.next]
        self.next += 1
        return words

    def program(self) -> s.Program:
        if self.take() != HEADER.split():
            raise self.fail(f"the first line must be {HEADER!r}")
        name = "unnamed"
        observe_all = False
        files: dict[str, Path] = {}
        environment: dict[str, str] = {}
        while (words := self.take()) and words[0] in ("name", "observe", "file", "environment"):
            verb, *rest = words
            if verb == "name":
                name = " ".join(rest)
            elif verb == "file":
                files |= self.file(rest)
            elif verb == "environment":
                environment |= self.variable(rest)
            elif rest in (["all"], ["failures"]):
                observe_all = rest == ["all"]
            else:
                raise self.fail("observe is followed by all or failures")
        if words:
            self.next -= 1
        body, closer = self.block(0)
        if closer:
            raise self.fail(f"{closer!r} without a block to close")
        if wrong := executing.complaint(body, names=files):
            raise self.fail(wrong)
        return s.Program(name, body, observe_all, files, environment)

    def file(self, words: list[str]) -> dict[str, Path]:
        """The file that a line names, which must be the one that the program was made with."""
        name, wanted = words if len(words) == 2 else (*words, "") if len(words) == 1 else ("", "")
        if not executing.NAME.match(name) or (wanted and not _DIGEST.match(wanted)):
            raise self.fail("file is followed by a name and perhaps a SHA-256")
        path = self.files.get(name)
        if path is None:
            raise UsageError(
                f"{self.source}, line {self.at}: the program needs the file {name!r}"
                + (f" with the SHA-256 {wanted}." if wanted else "."),
                remedy=f"Say where it is: --file {name}=PATH.",
            )
        found = executing.digest(name, path)
        if wanted not in ("", found):
            raise UsageError(
                f"{self.source}, line {self.at}: {path} is not the file {name!r} that the program "
                f"was made with: its SHA-256 is {found}, not {wanted}.",
                remedy="Give the file that it was made with, or leave the SHA-256 out.",
            )
        return {name: path}

    def variable(self, words: list[str]) -> dict[str, str]:
        name, equals, value = self.only(words, 1)[0].partition("=")
        text = executing.unquoted(value)
        if not executing.VARIABLE.match(name) or not equals or text is None:
            raise self.fail("environment is followed by NAME=VALUE")
        return {name: text}

    def block(self, depth: int) -> tuple[tuple[s.Step, ...], str]:
        """Steps up to ``end``, ``parent`` or the end of the file, and which it was."""
        if depth > MAX_DEPTH:
            raise self.fail(f"blocks are nested deeper than {MAX_DEPTH}")
        steps: list[s.Step] = []
        while (words := self.take()) is not None:
            if words in (["end"], ["parent"]):
                return tuple(steps), words[0]
            steps.append(self.step(words, depth))
        return tuple(steps), ""

    def body(self, depth: int, *, until: str = "end") -> tuple[s.Step, ...]:
        opened = self.at
        steps, closer = self.block(depth + 1)
        if closer != until:
            self.at = opened
            raise self.fail(f"the block that starts here is not closed by {until!r}")
        return steps

    def step(self, words: list[str], depth: int) -> s.Step:
        verb, *rest = words
        if verb == "repeat":
            return s.Repeat(self.number(self.only(rest, 1)[0], least=1), self.body(depth))
        if verb == "fork":
            parent_first = self.flag(rest, "parent-first")
            self.only(rest, 0)
            child = self.body(depth, until="parent")
            return s.Fork(child, self.body(depth), parent_first)
        if verb == "parallel":
            self.only(rest, 0)
            return s.Parallel(self.groups(depth))
        parser = _SIMPLE.get(verb)
        if parser is None:
            raise self.fail(f"unknown step {verb!r}")
        return parser(self, rest)

    def groups(self, depth: int) -> tuple[s.Threads, ...]:
        groups: list[s.Threads] = []
        while (words := self.take()) not in (None, ["end"]):
            assert words is not None
            if words[0] != "threads":
                raise self.fail("a parallel block holds threads blocks only")
            rest = words[1:]
            loop = self.flag(rest, "loop")
            count = self.number(self.only(rest, 1)[0], least=1)
            groups.append(s.Threads(count, self.body(depth + 1), loop))
        if not groups or all(group.loop for group in groups):
            raise self.fail("a parallel block needs a threads block that ends")
        return tuple(groups)

    # -- words ---------------------------------------------------------------------------

    def only(self, words: list[str], count: int) -> list[str]:
        if len(words) != count:
            raise self.fail(f"expected {count} words after the step's name, found {len(words)}")
        return words

    def flag(self, words: list[str], name: str) -> bool:
        if words and words[-1] == name:
            words.pop()
            return True
        return False

    def number(self, text: str, *, least: int = 0) -> int:
        try:
            value = int(text, 0)
        except ValueError:
            raise self.fail(f"{text!r} is not a number") from None
        if value < least or value >= 1 << 63:
            raise self.fail(f"{text} is out of range")
        return value

    def region(self, text: str) -> int:
        value = self.number(text)
        if value >= MAX_REGIONS:
            raise self.fail(f"regions are numbered below {MAX_REGIONS}")
        return value

    def range(self, words: list[str]) -> tuple[int, int, int]:
        return self.region(words[0]), self.number(words[1]), self.number(words[2])

    def one_of(self, text: str, known: tuple[str, ...]) -> str:
        if text not in known:
            raise self.fail(f"{text!r} is not one of {', '.join(known)}")
        return text

    def content(self, text: str) -> s.Content:
        if text == "pattern" or text == "zero":
            return text  # type: ignore[return-value]
        return self.byte(text)

    def byte(self, text: str) -> int:
        value = self.number(text)
        if value > 0xFF:
            raise self.fail(f"{text} is not a byte")
        return value

    def label(self, text: str) -> str:
        if not _LABEL.match(text):
            raise self.fail(f"{text!r} is not a lower-case label of at most 31 characters")
        return text

    def pairs(self, words: list[str], known: tuple[str, ...]) -> dict[str, str]:
        found: dict[str, str] = {}
        for word in words:
            key, equals, value = word.partition("=")
            if not equals or key not in known or key in found:
                raise self.fail(f"{word!r} is not one of {', '.join(k + '=' for k in known)}")
            found[key] = value
        return found


def _phase(p: _Parser, words: list[str]) -> s.Step:
    name = p.only(words, 1)[0]
    return s.Phase("" if name == "-" else p.label(name))


def _measure(p: _Parser, words: list[str]) -> s.Step:
    return s.Measure(p.label(p.only(words, 1)[0]))


def _map(p: _Parser, words: list[str]) -> s.Step:
    plain = p.flag(words, "plain")
    populate = not plain and p.flag(words, "populate")
    p.only(words, 2)
    return s.Map(p.region(words[0]), p.number(words[1], least=1), populate, plain)


def _map_anonymous(p: _Parser, words: list[str]) -> s.Step:
    p.only(words, 3)
    return s.MapAnonymous(p.region(words[0]), p.number(words[1], least=1), p.region(words[2]))


def _unmap(p: _Parser, words: list[str]) -> s.Step:
    return s.Unmap(*p.range(p.only(words, 3)))


def _touch(p: _Parser, words: list[str]) -> s.Step:
    shared = p.flag(words, "shared")
    if len(words) < 5:
        raise p.fail("touch needs a region, an offset, a length, an access and a stride")
    access = p.one_of(words[3], get_args(s.Access))
    stride = p.number(words[4], least=1)
    extra = p.pairs(words[5:], ("size", "order", "seed", "count", "value"))
    size = p.number(extra.get("size", "1"), least=1)
    if size > stride:
        raise p.fail("a touch's size is larger than its stride")
    return s.Touch(
        *p.range(words),
        access,  # type: ignore[arg-type]
        stride,
        size,
        p.one_of(extra.get("order", "forward"), get_args(s.Order)),  # type: ignore[arg-type]
        p.number(extra.get("seed", "0")),
        p.number(extra.get("count", "0")),
        p.byte(extra.get("value", "0x55")),
        shared,
    )


def _handout(p: _Parser, words: list[str]) -> s.Step:
    if len(words) < 4:
        raise p.fail("handout needs a region, an offset, a length and what it was before")
    past = p.one_of(words[3], get_args(s.Past))
    times = p.number(p.pairs(words[4:], ("times",)).get("times", "1"), least=1)
    return s.Handout(*p.range(words), past, times)  # type: ignore[arg-type]


def _expect(p: _Parser, words: list[str]) -> s.Step:
    once = p.flag(words, "once")
    if len(words) < 4:
        raise p.fail("expect needs a region, an offset, a length and a content")
    extra = p.pairs(words[4:], ("stride",))
    stride = p.number(extra.get("stride", "1"), least=1)
    return s.Expect(*p.range(words), p.content(words[3]), stride, once)


def _advise(p: _Parser, words: list[str]) -> s.Step:
    p.only(words, 4)
    return s.Advise(*p.range(words), p.one_of(words[3], s.ADVICE))


def _protect(p: _Parser, words: list[str]) -> s.Step:
    p.only(words, 4)
    return s.Protect(*p.range(words), p.one_of(words[3], get_args(s.Protection)))  # type: ignore[arg-type]


def _lock(p: _Parser, words: list[str]) -> s.Step:
    return s.Lock(*p.range(p.only(words, 3)))


def _unlock(p: _Parser, words: list[str]) -> s.Step:
    return s.Lock(*p.range(p.only(words, 3)), on=False)


def _remap(p: _Parser, words: list[str]) -> s.Step:
    p.only(words, 5)
    return s.Remap(*p.range(words), p.region(words[3]), p.number(words[4]))


def _kernel_reads(p: _Parser, words: list[str]) -> s.Step:
    p.only(words, 5)
    via = p.one_of(words[3], get_args(s.KernelRead))
    return s.KernelReads(*p.range(words), via, p.content(words[4]))  # type: ignore[arg-type]


def _kernel_writes(p: _Parser, words: list[str]) -> s.Step:
    p.only(words, 5)
    via = p.one_of(words[3], get_args(s.KernelWrite))
    return s.KernelWrites(*p.range(words), via, p.byte(words[4]))  # type: ignore[arg-type]


def _userfault(p: _Parser, words: list[str]) -> s.Step:
    p.only(words, 4)
    return s.Userfault(*p.range(words), p.byte(words[3]))


def _reference(p: _Parser, words: list[str]) -> s.Step:
    known = (*get_args(s.Tampering), *get_args(s.Origin))
    return s.Reference(p.one_of(p.only(words, 1)[0], known))  # type: ignore[arg-type]


def _descriptors(p: _Parser, words: list[str]) -> s.Step:
    p.only(words, 0)
    return s.Descriptors()


def _execute(p: _Parser, words: list[str]) -> s.Step:
    if not words or len(words) - 1 > executing.MOST_WORDS:
        raise p.fail(f"execute needs a file and at most {executing.MOST_WORDS} arguments")
    arguments = []
    for word in words[1:]:
        text = executing.unquoted(word)
        if text is None:
            raise p.fail(f"{word!r} has a % that two hexadecimal digits do not follow")
        arguments.append(text)
    return s.Execute(words[0], tuple(arguments))


def _settle(p: _Parser, words: list[str]) -> s.Step:
    p.only(words, 0)
    return s.Settle()


def _kernel_log(p: _Parser, words: list[str]) -> s.Step:
    return s.KernelLog(p.one_of(p.only(words, 1)[0], ("mark", "clean")))  # type: ignore[arg-type]


_SIMPLE: dict[str, Callable[[_Parser, list[str]], s.Step]] = {
    "phase": _phase,
    "measure": _measure,
    "map": _map,
    "map-anonymous": _map_anonymous,
    "unmap": _unmap,
    "touch": _touch,
    "handout": _handout,
    "expect": _expect,
    "advise": _advise,
    "protect": _protect,
    "lock": _lock,
    "unlock": _unlock,
    "remap": _remap,
    "kernel-reads": _kernel_reads,
    "kernel-writes": _kernel_writes,
    "userfault": _userfault,
    "reference": _reference,
    "descriptors": _descriptors,
    "settle": _settle,
    "kernel-log": _kernel_log,
    "execute": _execute,
}
