"""The promises of a channel. The other end of it runs the witness, ``native/witness.c``."""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from refbench.agent import NATIVE, build
from refbench.backend import Answer, Channel
from refbench.cache import Cache
from refbench.errors import NoAnswer, RefbenchError
from refbench.protocol import parse
from refbench.testing.finding import (
    DEADLINE,
    LATE,
    BrokenError,
    Finding,
    LeftOutError,
    finding,
    raised,
    want,
)

FLOOD = 16384
"""Lines of 64 bytes, 1 MiB: more than a pipe, a pty or a message holds."""


def examine_channel(channel: Channel, arch: str) -> Iterator[Finding]:
    """Every promise of an open channel to a machine of ``arch``, without any session.

    :raises BackendError: when the witness cannot be built for ``arch``.
    """
    witness = build("witness", (NATIVE / "witness.c",), arch, Cache.default())
    with tempfile.TemporaryDirectory(prefix="refbench-testing-") as name:
        folder = Path(name)
        copy = shutil.copy(witness.path, folder / "witness")
        try:
            there = channel.put(Path(copy))
        except Exception as error:
            yield Finding("put() brings a program over", raised(error))
            return
        channelled = _Channelled(channel, there, folder)
        for promise, check in CHANNEL.items():
            yield finding(promise, lambda check=check: check(channelled))  # type: ignore[misc]


@dataclass(slots=True)
class _Channelled:
    """A channel with the witness behind it."""

    channel: Channel
    witness: str
    folder: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def run(self, *arguments: str, deadline: float = DEADLINE) -> Answer:
        return self.channel.run([self.witness, *arguments], deadline)

    def say(self, out: bytes = b"", err: bytes = b"", status: int = 0) -> Answer:
        return self.run("say", out.hex(), err.hex(), str(status))

    def file(self, content: bytes) -> Path:
        """A file called ``page`` in a folder of its own."""
        folder = self.folder / str(next(self._numbers))
        folder.mkdir()
        path = folder / "page"
        path.write_bytes(content)
        return path


def _fnv(data: bytes) -> str:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % (1 << 64)
    return f"{len(data)} {value:016x}"


def _files(there: _Channelled) -> None:
    contents = [bytes(range(256)) * 300 + secrets.token_bytes(11), b"", b"\n\n", b"another"]
    paths = [there.channel.put(there.file(content)) for content in contents]
    for path, content in zip(paths, contents, strict=True):
        said = there.run("digest", path).stdout
        want(
            said == (_fnv(content),),
            f"of a file of {len(content)} bytes, called as others were, {said} arrived",
        )


def _arguments(there: _Channelled) -> None:
    texts = ["", "two words", "it's", '"', "$HOME", "*", "a;b|c&d", "back\\slash", "-n", "ü", "%s"]
    said = there.run("arguments", *texts).stdout
    want(said == tuple(text.encode().hex() for text in texts), f"of {texts} arrived {said}")


def _lines(there: _Channelled) -> None:
    out = b"\n  blanks  \ttabs\t\n\n\x0c \xe2\x80\xa8 is no end of a line\n\xff is no UTF-8\r\n"
    answer = there.say(out)
    wanted = tuple(out.decode(errors="surrogateescape").split("\n")[:-1])
    want(answer.stdout == wanted, f"of {wanted} arrived {answer.stdout}")
    answer = there.say(b"whole\ncut")
    want(answer.stdout == ("whole", "cut"), f"a line without its end arrived as {answer.stdout}")
    want(there.say().stdout == (), "a silent program has said something")


def _apart(there: _Channelled) -> None:
    answer = there.say(b"out\n", b"err\n")
    want(answer.stdout == ("out",), f"standard output was 'out', it arrived as {answer.stdout}")
    want(
        answer.stderr in {("err",), ()},
        f"standard error was 'err', it arrived as {answer.stderr}",
    )


def _flood(there: _Channelled) -> None:
    answer = there.run("flood", str(FLOOD))
    wanted = tuple(f"{number:063d}" for number in range(FLOOD))
    want(answer.stdout == wanted, f"of {FLOOD} lines, {len(answer.stdout)} arrived")
    want(answer.stderr in {wanted, ()}, f"of {FLOOD} of stderr, {len(answer.stderr)} arrived")


def _status(there: _Channelled) -> None:
    for status in (0, 1, 3, 77, 200):
        answer = there.say(status=status)
        got = (answer.returncode, answer.signal, answer.deadline_passed)
        want(
            got == (status, 0, False),
            f"status {status} came as returncode={got[0]}, signal={got[1]}, late={got[2]}",
        )


def _signals(there: _Channelled) -> None:
    for verb, number in (("crash", signal.SIGSEGV), ("killed", signal.SIGKILL)):
        answer = there.run(verb)
        if answer.stdout == ("spared",):
            continue
        hint = " (a shell says 128 + N for signal N)" if answer.returncode == 128 + number else ""
        want(
            answer.signal == number and not answer.deadline_passed,
            f"{number.name} came as returncode={answer.returncode}, signal={answer.signal}, "
            f"deadline_passed={answer.deadline_passed}{hint}",
        )


def _missing(there: _Channelled) -> None:
    answer = there.channel.run([there.witness + "-missing"], DEADLINE)
    want(
        bool(answer.returncode or answer.signal or answer.facts) and not answer.stdout,
        f"a program that is not there came as {answer}",
    )


def _deadline(there: _Channelled) -> None:
    answer = there.run("hang", deadline=LATE)
    want(answer.deadline_passed, f"deadline_passed is false after {LATE:.0f} s: {answer}")
    want(
        there.run("free").returncode == 0,
        "the program, or a child of it, still runs after its deadline",
    )


def _after(there: _Channelled) -> None:
    want(there.say(b"again\n").stdout == ("again",), "it does not answer as before")


def _lost(there: _Channelled) -> None:
    try:
        answer = there.run("lose", str(os.getpid()))
    except ConnectionError:
        return
    if answer.stdout == ("spared",):
        raise LeftOutError("nothing but refbench or an init has started the program")
    try:
        parse(answer)
    except NoAnswer:
        return
    except RefbenchError as error:
        raise BrokenError(
            f"it looks like the agent's own doing and will not be tried again: {error.message}"
        ) from None


def _recovers(there: _Channelled) -> None:
    try:
        _after(there)
    except ConnectionError as error:
        raise LeftOutError(f"the connection is still lost: {error}") from None


CHANNEL: dict[str, Callable[[_Channelled], None]] = {
    "put() brings every byte over and keeps what is there": _files,
    "arguments arrive as they are": _arguments,
    "lines arrive as they are": _lines,
    "standard error is not mixed into standard output": _apart,
    "a megabyte on both streams arrives": _flood,
    "the exit status arrives": _status,
    "a signal arrives as a signal": _signals,
    "a program that is not there is an answer, no exception": _missing,
    "a late program is ended, with its children": _deadline,
    "after a deadline the next program runs": _after,
    "a lost connection is ConnectionError or no answer": _lost,
    "after a lost connection it connects again": _recovers,
}
"""The promises of a channel, in the order in which they are examined."""
