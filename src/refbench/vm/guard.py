"""The guard of a guest's kernel log: which lines tell of a fault of the kernel itself.

A rule looks at the start of a line, behind the time stamp, so that a command line that is echoed
or a message that quotes another does not count. Kernel messages shout what is a fault (``BUG:``,
``WARNING:``); what they call a ``warning:`` in small letters (a program's outdated system call) is
about programs, and so are ``traps:`` and ``segfault`` lines. native/agent/kernel_log.c has a
coarser list for the properties of the semantics suite: whatever it finds in a log, a rule finds.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from refbench.errors import KernelFault
from refbench.vm.console import Console, stamp, text_of

SILENT: Final = "silent guest"
PANIC: Final = "panic"
OOM: Final = "OOM kill"
CGROUP_OOM: Final = "OOM kill by a memory limit"

_RULES: dict[str, tuple[str, ...]] = {
    # The first that fits counts, so the special come before the general.
    "bad rss-counter": ("BUG: Bad rss-counter state",),
    "bad page": ("BUG: Bad page (?:map|state|cache)", "BUG: non-zero pgtables_bytes"),
    "KASAN": ("BUG: (?:KASAN|KFENCE|KMSAN|KCSAN):",),
    "UBSAN": ("UBSAN: ",),
    "soft lockup": ("(?:watchdog: )?BUG: soft lockup", "BUG: workqueue lockup"),
    "hard lockup": (r"(?:NMI )?watchdog: (?:BUG: |CPU\d+: )?Watchdog detected hard LOCKUP",),
    "RCU stall": (
        r"(?:rcu: )?INFO: rcu\w* .*(?:detected|stall)",
        "rcu: .*(?:kthread starved|detected .*stall)",
    ),
    "hung task": ("INFO: task .* blocked (?:for more than|in I/O wait)",),
    "lockdep": (
        "WARNING: possible (?:circular|recursive|irq|nested)",
        "WARNING: (?:inconsistent lock|bad unlock|bad contention|locking bug|Nested lock)",
        "WARNING: (?:held lock freed|lock held when|suspicious RCU)",
        r"WARNING: .*(?:-safe -> |lock order)",
        "INFO: (?:possible (?:recursive|circular)|trying to register non-static key)",
        "BUG: (?:Invalid wait context|MAX_LOCK|MAX_STACK_TRACE|looking up invalid|lock held)",
    ),
    "Oops": (
        "BUG: (?:unable to handle|kernel NULL|stack guard)",
        r"Oops\b",
        "kernel BUG at",
        "Internal error: |Unable to handle kernel",
        "double fault|Kernel stack overflow|general protection fault",
        r"(?:invalid opcode|divide error|int3): \d+",
    ),
    PANIC: ("Kernel panic - not syncing",),
    OOM: (r"\S.* invoked oom-killer:", r"Out of memory(?: \(|:)"),
    CGROUP_OOM: ("Memory cgroup out of memory:", "oom-kill:constraint=CONSTRAINT_MEMCG"),
    "WARNING": ("WARNING:",),
    "BUG": ("BUG:", "INFO: Slab", r"kmemleak: \d+ new suspected"),
}
_NAMES = tuple(_RULES)
_START = re.compile(
    "|".join(f"(?P<rule{i}>{'|'.join(texts)})" for i, texts in enumerate(_RULES.values()))
)
_END = re.compile(r"---\[ end |(?:Out of memory|Memory cgroup out of memory)[:( ].*Killed process")
_CUT = "------------[ cut here ]------------"
_IN_CGROUP = re.compile("|".join(_RULES[CGROUP_OOM]))
_ABSORBS = {"Oops": {"Oops", "BUG"}, OOM: {CGROUP_OOM}, CGROUP_OOM: {OOM}}
"""What is a part of a report that has begun, beside its own rule."""
_GAP = 0.5
"""Seconds of the guest's clock: after such a pause, a report without an end mark is over."""
_MOST = 400
"""Lines that a finding keeps; a report of a large machine's memory has 200."""
_QUIET = 0.1
"""Seconds without another line after which a report has come whole."""
_LOOK_AGAIN = 0.01


@dataclass(frozen=True, slots=True)
class Allowed:
    """Lines that a configuration prints by its nature, and why they are no fault."""

    pattern: str
    """A regular expression for the whole line without its time stamp."""
    reason: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault of the guest's kernel: the rule that found it and the whole report."""

    rule: str
    lines: tuple[str, ...]

    def fault(self) -> KernelFault:
        """What the run that it happened in fails with."""
        return KernelFault(
            f"The kernel of the guest reported a fault ({self.rule}): {self.headline}",
            log=self.lines,
            remedy="The log has the report; the guest is replaced.",
        )

    @property
    def headline(self) -> str:
        """The line that the rule found."""
        texts = [text_of(line) for line in self.lines]
        return next((text for text in texts if _rule(text, ())), texts[0] if texts else "")


class _Report:
    """A finding that is being collected."""

    def __init__(self, rule: str, lines: Sequence[str]) -> None:
        self.rule = rule
        self.lines = list(lines)
        self.last = stamp(lines[-1])

    def takes(self, line: str, rule: str) -> bool:
        """Whether ``line``, which starts ``rule`` (or none), belongs to this report."""
        if rule and rule != self.rule and rule not in _ABSORBS.get(self.rule, ()):
            return False
        now = stamp(line)
        return now is None or self.last is None or now - self.last < _GAP

    def add(self, line: str) -> None:
        if len(self.lines) < _MOST:
            self.lines.append(line)
        self.last = stamp(line) or self.last
        if self.rule == OOM and _IN_CGROUP.match(text_of(line)):
            self.rule = CGROUP_OOM

    def finding(self) -> Finding:
        return Finding(self.rule, tuple(self.lines))


def scan(lines: Iterable[str], allowed: Sequence[Allowed] = ()) -> tuple[Finding, ...]:
    """The faults that a kernel log tells of, in the order in which it does.

    A report without an end mark goes on until the log pauses, or another begins.
    """
    found: list[Finding] = []
    report: _Report | None = None
    cut: list[str] = []
    for line in lines:
        text = text_of(line)
        rule = _rule(text, allowed)
        if report is not None and not report.takes(line, rule):
            found.append(report.finding())
            report = None
        if report is not None and text != _CUT:
            report.add(line)
        elif rule:
            report = _Report(rule, [*cut, line])
        if text == _CUT:
            cut = [line]
        elif cut:
            cut = [] if rule or len(cut) > 3 else [*cut, line]
        if report is not None and _END.match(text):
            found.append(report.finding())
            report = None
    if report is not None:
        found.append(report.finding())
    return tuple(found)


class Guard:
    """Reads a guest's console and tells of the faults in it, each once.

    ``allowed``: lines that are none there.
    """

    def __init__(self, console: Console, allowed: Sequence[Allowed] = ()) -> None:
        self._console = console
        self._allowed = tuple(allowed)
        self._seen = 0

    def look(self, patience: float = 2.0) -> tuple[Finding, ...]:
        """The faults since the last call. Cheap while there is none; a report that has begun
        gets up to ``patience`` seconds to come to its end."""
        found = scan(self._console.lines(self._seen), self._allowed)
        if found:
            self._settle(patience)
            found = scan(self._console.lines(self._seen), self._allowed)
        self._seen = self._console.read()
        return found

    def silence(self, waited: float, status: str) -> Finding:
        """The finding that a guest neither answered for ``waited`` seconds nor logged a fault,
        while QEMU's run state is ``status``."""
        what = f"no answer for {waited:.0f} s; QEMU says {status}; the last lines of the log:"
        return Finding(SILENT, (what, *self._console.lines()[-10:]))

    def _settle(self, patience: float) -> None:
        end = time.monotonic() + patience
        size, since = -1, time.monotonic()
        while time.monotonic() < end:
            now = self._console.size()
            if now != size:
                size, since = now, time.monotonic()
            elif time.monotonic() - since > _QUIET:
                return
            time.sleep(_LOOK_AGAIN)


def _rule(text: str, allowed: Sequence[Allowed]) -> str:
    """The name of the rule that a line without its stamp starts; empty for none."""
    match = _START.match(text)
    if match is None or any(re.fullmatch(item.pattern, text) for item in allowed):
        return ""
    assert match.lastgroup is not None
    return _NAMES[int(match.lastgroup.removeprefix("rule"))]
