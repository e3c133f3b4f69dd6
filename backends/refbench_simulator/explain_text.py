"""A story as lines of text: what ``refbench explain`` prints of one cell."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.text import Text

from refbench.grammar import format_size
from refbench.readings import SETUP
from refbench.report import units
from refbench.samples import Observation
from refbench_simulator.model.events import Event
from refbench_simulator.picture import KINDS, Picture, Shown, Vmas
from refbench_simulator.spans import Span
from refbench_simulator.telling import SET_UP, Action, Block, Told

MARK = "~"
"""Before every modelled time: what stands behind it is said once a page."""
WIDEST = 100
_SILENT = ("phase", "measure", "settle", "kernel-log")
_SIGNS = {name: sign for name, sign, _ in KINDS}
_OUTSIDE = ("The mechanism closes down", "Set-up of the mechanism")
_PARTS = {"child": "in the child", "parent": "in the parent"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line: what stands at the left, indented, and at the right."""

    indent: int
    text: str
    right: str = ""
    style: str = ""

    def render(self, width: int) -> list[Text]:
        """Wrapped to ``width`` columns."""
        room = width - self.indent - (len(self.right) + 2 if self.right else 0)
        hang = self.text[:2] if self.text.startswith("| ") else ""
        hang = "  " if self.text.startswith("- ") else hang
        found = textwrap.wrap(
            self.text, max(room, 20), subsequent_indent=hang, break_on_hyphens=False
        )
        lines = []
        for number, part in enumerate(found or [""]):
            line = Text(" " * self.indent + part, style=self.style)
            if self.right and not number:
                line.append(" " * (width - len(line.plain) - len(self.right)))
                line.append(self.right, style="not bold")
            lines.append(line)
        return lines


def time(ns: float) -> str:
    """``~1.57 ms``."""
    return f"{MARK}{units.seconds(ns / 1e9)}"


def lines(steps: list[Told] | tuple[Told, ...], indent: int = 0) -> Iterator[Line]:
    """The story of steps."""
    for step in steps:
        yield from _step(step, indent)


def _step(step: Told, indent: int) -> Iterator[Line]:
    verb = step.text.partition(" ")[0]
    told = step.actions or step.blocks or step.after or step.observations or step.failed
    if verb == "phase" and not told:
        name = step.text.partition(" ")[2]
        if name != "-":
            yield Line(0, "")
            yield Line(indent, f"Phase {name}", style="bold cyan")
    elif not told and (verb in _SILENT or step.line == SET_UP):
        return
    else:
        yield from _told(step, indent)
    if step.picture is not None:
        yield from _picture(step.picture, indent + 2)


def _told(step: Told, indent: int) -> Iterator[Line]:
    actions = (*step.actions, *step.after)
    ns = sum(action.ns for action in actions if action.phase)
    stopped = actions and not any(action.phase for action in actions)
    right = "clock stopped" if stopped else time(ns) if actions else ""
    title = f"line {step.line}: {step.text}" if step.line else _OUTSIDE[step.phase == SETUP]
    yield Line(indent, title, right, "bold")
    yield from _actions(step.actions, indent + 2)
    met = 0
    for block in step.blocks:
        yield from _block(block, met, indent + 2)
        met += block.times
    if step.untold:
        text = f"{step.untold} more, each of them different from those before"
        yield Line(indent + 2, text, style="dim")
    if step.blocks and step.after:
        yield Line(indent + 2, "and then", style="italic")
    yield from _actions(step.after, indent + 2)
    for observation in step.observations:
        yield Line(indent + 2, _observation(observation), style="yellow")
    if step.failed and not step.blocks:
        yield Line(indent + 2, "The run ends here.", style="bold red")


def _block(block: Block, met: int, indent: int) -> Iterator[Line]:
    noun = "repetition" if block.part == "again" else "thread"
    text = _PARTS.get(block.part, "")
    if not text:
        text = f"{noun} {met + 1}"
        if block.times > 1:
            text = f"{noun}s {met + 1} to {met + block.times}, all alike; one of them"
    yield Line(indent, text, style="italic")
    yield from lines(block.steps, indent + 2)


def _actions(actions: tuple[Action, ...], indent: int) -> Iterator[Line]:
    before: tuple[Span, ...] = ()
    for action in sorted(actions, key=_first):
        timed = action.phase and action.events
        right = time(action.ns) + (" (assumed)" if action.assumed else "") if timed else ""
        yield Line(indent, f"- {_sentence(action)}", right)
        yield Line(indent + 2, action.rule.source, style="dim")
        if action.spans and action.spans != before:
            yield Line(indent + 2, _where(action.spans), style="green")
        before = action.spans or before
        if action.events or action.counters:
            yield Line(indent + 2, _counts(action))


def _sentence(action: Action) -> str:
    sentence = action.rule.sentence
    return f"{action.what}: {sentence[0].lower()}{sentence[1:]}" if action.what else sentence


def _first(action: Action) -> bool:
    """Traps are counted when their faults are over, and come before them."""
    return action.rule.id not in ("touch", "trap")


def _where(spans: tuple[Span, ...]) -> str:
    if len(spans) <= 3:
        return "; ".join(span.text for span in spans)
    return f"{len(spans)} regions, {sum(span.pages for span in spans)} pages"


def _counts(action: Action) -> str:
    """``1024 x fault, alloc, clear; 9 x table``."""
    groups: dict[int, list[str]] = {}
    for event, count in action.events.items():
        groups.setdefault(count, []).append(event.value)
    parts = [f"{count} x {', '.join(names)}" for count, names in groups.items()]
    faults = action.counters.get("minor", 0) + action.counters.get("major", 0)
    if faults and Event.FAULT not in action.events:
        parts.append(f"the kernel counts {'1 fault' if faults == 1 else f'{faults} faults'}")
    return "; ".join(parts)


def _observation(observation: Observation) -> str:
    if observation.ok:
        return f"{observation.step}: as expected"
    if observation.errno:
        return f"refused: {os.strerror(observation.errno)} {observation.detail}".rstrip()
    if observation.errors:
        return (
            f"wrong content: {observation.errors} bytes; the first, at offset "
            f"{observation.offset}, is {observation.got:#04x} instead of {observation.wanted:#04x}"
        )
    return observation.detail or "not as expected"


# -- pictures ------------------------------------------------------------------------------


def _picture(picture: Picture, indent: int) -> Iterator[Line]:
    for region in picture.regions:
        yield from _region(region, indent)
    rss = [
        f"{name} {format_size(size)}"
        for name, size in (
            ("anonymous", picture.rss_anon),
            ("shmem", picture.rss_shmem),
            ("file", picture.rss_file),
        )
        if size
    ]
    sizes = [f"RSS {format_size(picture.rss)}" + (f" ({', '.join(rss)})" if rss else "")]
    sizes.append(f"PSS {format_size(picture.pss)}")
    if picture.swap:
        sizes.append(f"swap {format_size(picture.swap)}")
    sizes += [
        f"page tables {format_size(picture.tables)}",
        "1 VMA" if picture.vmas == 1 else f"{picture.vmas} VMAs",
        f"all charged {format_size(picture.charged)}",
    ]
    yield Line(indent, f"| {', '.join(sizes)}", style="blue")


def _region(region: Shown, indent: int) -> Iterator[Line]:
    yield Line(
        indent, f"| region {region.region}: {'; '.join(map(_vmas, region.vmas))}", style="blue"
    )
    where = "" if not region.first else f" from page {region.first}"
    yield Line(indent, f"| {region.strip.rstrip()}{where}", style="blue")
    counts = [f"{_SIGNS[name]} {name} {pages}" for name, pages in region.kinds]
    yield Line(indent, f"| {', '.join(counts)}", style="blue")


def _vmas(vmas: Vmas) -> str:
    count = "1 VMA" if vmas.count == 1 else f"{vmas.count} VMAs"
    extra = [*vmas.flags, *(["anon_vma"] if vmas.anon_vma else [])]
    parts = [f"{count} ({vmas.pages} pages), {vmas.permissions} {vmas.maps}", *extra]
    return ", ".join(parts)


def shares(times: Mapping[str, int]) -> str:
    """``getting pages 61 %, entering the kernel 30 %``: from 1 % on, the largest first."""
    total = sum(times.values()) or 1
    order = sorted(times.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {ns / total:.0%}" for name, ns in order if ns / total >= 0.01)
