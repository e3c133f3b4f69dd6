"""A program as text: one step a line, blocks closed by ``end``. See docs/program-format.md."""

from __future__ import annotations

from collections.abc import Iterator

from refbench.program import steps as s
from refbench.program.executing import digest, quote

VERSION = 1
HEADER = f"refbench-program {VERSION}"


def dump(program: s.Program) -> str:
    """The text of a program; :func:`refbench.program.parse` of it gives the program back."""
    lines = [HEADER, f"name {program.name}"]
    if program.observe_all:
        lines.append("observe all")
    lines += [f"file {name} {digest(name, path)}" for name, path in sorted(program.files.items())]
    lines += [
        f"environment {name}={quote(value) if value else ''}"
        for name, value in sorted(program.environment.items())
    ]
    lines += _dump_block(program.steps, "")
    return "\n".join(lines) + "\n"


def _dump_block(steps: tuple[s.Step, ...], indent: str) -> Iterator[str]:
    for step in steps:
        yield from (indent + line for line in _dump_step(step))


def _dump_step(step: s.Step) -> Iterator[str]:
    match step:
        case s.Phase(name):
            yield f"phase {name or '-'}"
        case s.Measure(label):
            yield f"measure {label}"
        case s.Map(region, size, populate, plain):
            how = (" populate" if populate else "") + (" plain" if plain else "")
            yield f"map {region} {size}{how}"
        case s.MapAnonymous(region, size, after):
            yield f"map-anonymous {region} {size} {after}"
        case s.Unmap(region, offset, length):
            yield f"unmap {region} {offset} {length}"
        case s.Touch():
            yield _dump_touch(step)
        case s.Handout(region, offset, length, past, times):
            extra = f" times={times}" if times != 1 else ""
            yield f"handout {region} {offset} {length} {past}{extra}"
        case s.Expect(region, offset, length, content, stride, once):
            extra = f" stride={stride}" if stride != 1 else ""
            yield f"expect {region} {offset} {length} {content}{extra}{' once' if once else ''}"
        case s.Advise(region, offset, length, advice):
            yield f"advise {region} {offset} {length} {advice}"
        case s.Protect(region, offset, length, protection):
            yield f"protect {region} {offset} {length} {protection}"
        case s.Lock(region, offset, length, on):
            yield f"{'lock' if on else 'unlock'} {region} {offset} {length}"
        case s.Remap(region, offset, length, target, new_length):
            yield f"remap {region} {offset} {length} {target} {new_length}"
        case s.KernelReads(region, offset, length, via, content):
            yield f"kernel-reads {region} {offset} {length} {via} {content}"
        case s.KernelWrites(region, offset, length, via, value):
            yield f"kernel-writes {region} {offset} {length} {via} {value}"
        case s.Userfault(region, offset, length, value):
            yield f"userfault {region} {offset} {length} {value}"
        case s.Reference(action):
            yield f"reference {action}"
        case s.Descriptors():
            yield "descriptors"
        case s.Settle():
            yield "settle"
        case s.KernelLog(action):
            yield f"kernel-log {action}"
        case s.Execute(file, arguments):
            yield " ".join(["execute", file, *map(quote, arguments)])
        case s.Repeat(count, body):
            yield f"repeat {count}"
            yield from _dump_block(body, "  ")
            yield "end"
        case s.Fork(child, parent, parent_first):
            yield "fork" + (" parent-first" if parent_first else "")
            yield from _dump_block(child, "  ")
            yield "parent"
            yield from _dump_block(parent, "  ")
            yield "end"
        case s.Parallel(groups):
            yield "parallel"
            for group in groups:
                yield f"  threads {group.count}" + (" loop" if group.loop else "")
                yield from _dump_block(group.body, "    ")
                yield "  end"
            yield "end"


def _dump_touch(step: s.Touch) -> str:
    plain = s.Touch(step.region, step.offset, step.length, step.access, step.stride)
    text = f"touch {step.region} {step.offset} {step.length} {step.access} {step.stride}"
    for name in ("size", "order", "seed", "count", "value"):
        if getattr(step, name) != getattr(plain, name):
            text += f" {name}={getattr(step, name)}"
    return text + (" shared" if step.shared else "")
