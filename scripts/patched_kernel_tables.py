"""The tables of docs/patched-kernel.md: each is measured and printed by one command.

    scripts/patched_kernel_tables.py v4       the published program beside the published figures
    scripts/patched_kernel_tables.py faults   refpage against anon: ERMS, init_on_alloc, config
    scripts/patched_kernel_tables.py memory   RSS and the cgroup's charge in pages, THP off
    scripts/patched_kernel_tables.py thp      what refusing huge pages costs
    scripts/patched_kernel_tables.py uffd     userfaultfd, memfd, memset and the reference page

The journal stays in the folder that -o names; where it is complete already it is only printed.
A part that cannot be measured, because its kernel has not been built, is left out with the reason.
"""  # noqa: INP001

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

from rich.console import Console

from refbench import journal as journals
from refbench.cli.progress import Watcher
from refbench.cli.screen import Screen
from refbench.errors import RefbenchError
from refbench.grammar import Spec
from refbench.journal import Header, Journal
from refbench.plan import Request
from refbench.plugins import registry
from refbench.report import units
from refbench.report.markdown import table as grid
from refbench.report.summary import Figure, Row, summarise
from refbench.runner import execute
from refbench.samples import Measurement
from refbench.version import VERSION

ROOT = Path("reports/patched-kernel")
PAGE = 4096
UFFD = ("uffd", "uffd:events=fork", "uffd-sigbus", "uffd-sigbus:atfork=yes")
SYNTHETIC = (
    *("sparse-write", "sparse-read", "sparse-random", "dense-write", "dense-read"),
    *("fork-child-write", "fork-parent-read", "churn-small", "v4-one", "v4-half", "v4-all"),
    *("pressure:rounds=2", "sparse-touch:threads=2"),
)
# Kibibytes and seconds of the letter of version 4 of the series: memset, then refpage.
PUBLISHED = {
    "one": ((3.962, 0.0267), (6656, 3448)),
    "half": ((3.925, 1.481), (6696, 4580)),
    "all": ((3.986, 3.385), None),
}


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured, by where, what and how."""

    rows: dict[tuple[str, str, str], Row]

    @classmethod
    def of(cls, measurements: Iterable[Measurement]) -> Found:
        """From the measurements of a journal."""
        return cls(
            {
                (section.environment.target, block.label, row.cell.mechanism): row
                for section in summarise(tuple(measurements))
                for block in section.blocks
                for row in block.rows
            }
        )

    def figure(self, target: str, label: str, mechanism: str, metric: str) -> Figure | None:
        """One figure, None where the cell failed or has no such metric."""
        row = self.rows.get((_canonical(target), label, mechanism))
        return row.figures.get(metric) if row else None

    def text(self, target: str, label: str, mechanism: str, metric: str) -> str:
        """A figure as people read it, or why there is none."""
        row = self.rows.get((_canonical(target), label, mechanism))
        if row is None:
            return "not measured"
        if row.failure is not None:
            return row.failure.kind.replace("-", " ")
        return row.figures[metric].text if metric in row.figures else "n/a"

    def ratio(self, over: tuple[str, str, str], under: tuple[str, str, str], metric: str) -> str:
        """``1.02`` with three significant digits."""
        a, b = self.figure(*over, metric), self.figure(*under, metric)
        return f"{units.digits(a.value / b.value)}" if a and b and b.value else "n/a"


@dataclass(frozen=True, slots=True)
class Part:
    """What is measured at once."""

    targets: tuple[str, ...]
    request: Request


@dataclass(frozen=True, slots=True)
class Table:
    """One table: what is measured for it, and how it is shown."""

    parts: tuple[Part, ...]
    lines: Callable[[Found], list[str]]


def _canonical(target: str) -> str:
    return str(Spec.parse(target, what="target"))


# -- v4 ----------------------------------------------------------------------------------------


def v4(kernel: str) -> Table:
    """The published program on three clocks."""
    counted, real = f"qemu:kernel={kernel}", f"qemu:kernel={kernel},clock=real"
    pairs = ("memset", "refpage")
    whole = tuple(f"v4-microbench:touch={touch}" for touch in PUBLISHED)
    tenth = tuple(f"v4-{touch}" for touch in PUBLISHED)
    parts = (
        Part((counted,), Request(pairs, whole, runs=1, iterations=1)),
        Part((real,), Request(pairs, tenth, runs=5, iterations=1)),
        Part(("host",), Request(("memset", "anon"), tenth, runs=5, iterations=1)),
    )

    def lines(found: Found) -> list[str]:
        header = ["touched", "published", "instructions", "seconds in QEMU", "anon on this machine"]
        header += ["published RSS", "RSS here"]
        rows = []
        for touch, (seconds, rss) in PUBLISHED.items():
            label = _label(touch)
            ours = [(counted, label, name) for name in pairs]
            rows.append(
                [
                    touch,
                    f"{seconds[0]} s / {seconds[1]} s = {units.digits(seconds[0] / seconds[1])}",
                    _versus(found, ours, "time"),
                    _versus(found, [(real, f"v4-{touch}", name) for name in pairs], "time"),
                    _versus(
                        found, [("host", f"v4-{touch}", n) for n in ("memset", "anon")], "time"
                    ),
                    f"{rss[0]} KiB / {rss[1]} KiB" if rss else "equal",
                    " / ".join(found.text(*cell, "hwm") for cell in ours),
                ]
            )
        return grid(header, rows)

    return Table(parts, lines)


def _label(touch: str) -> str:
    workload = registry().workload(Spec("v4-microbench"))
    return str(workload.canonical(Spec("v4-microbench", (("touch", touch),))))


def _versus(found: Found, cells: Sequence[tuple[str, str, str]], metric: str) -> str:
    texts = [found.text(*cell, metric) for cell in cells]
    return f"{texts[0]} / {texts[1]} = {found.ratio(cells[0], cells[1], metric)}"


# -- faults ------------------------------------------------------------------------------------


def faults(kernel: str) -> Table:
    """A fault under every combination of what decides its price."""
    cases = {"dense-write": "store", "dense-read": "read"}
    names = ("anon", "refpage", "refpage-mmap", "refpage-dev")
    targets = {
        (config, erms, init): f"qemu:kernel={config},erms={erms},init-on-alloc={init}"
        for config, erms, init in product(
            (kernel, f"{kernel}-distro"), ("no", "yes"), ("no", "yes")
        )
    }

    def lines(found: Found) -> list[str]:
        rows = []
        for (case, what), ((config, erms, init), target) in product(cases.items(), targets.items()):
            anon = found.figure(target, case, "anon", "time.touch")
            if anon is None and found.rows:
                continue
            each = f"{anon.value * PAGE / (16 << 20):.0f}" if anon else "n/a"
            ratios = [
                found.ratio((target, case, name), (target, case, "anon"), "time.touch")
                for name in names[1:]
            ]
            rows.append([what, config, erms, "1" if init == "yes" else "0", each, *ratios])
        header = ["fault", "kernel", "ERMS", "init_on_alloc", "anon, instructions"]
        return grid([*header, *(f"{name} / anon" for name in names[1:])], rows)

    request = Request(names, tuple(cases))
    parts: dict[str, list[str]] = {config: [] for config, _, _ in targets}
    for (config, _, _), target in targets.items():
        parts[config].append(target)
    return Table(tuple(Part(tuple(group), request) for group in parts.values()), lines)


# -- memory ------------------------------------------------------------------------------------


def memory(kernel: str) -> Table:
    """Resident and charged pages of the reference page beside those of plain memory."""
    target = f"qemu:kernel={kernel},swap=128MiB"
    metrics = {"rss": "RSS", "hwm": "peak RSS", "pte": "page tables", "cgroup-anon": "charged"}

    def lines(found: Found) -> list[str]:
        labels = dict.fromkeys(label for _, label, _ in found.rows)
        rows = []
        for label in labels:
            cells = []
            for metric in metrics:
                pages = [found.figure(target, label, name, metric) for name in ("anon", "refpage")]
                shown = [f"{round(one.value / PAGE)}" if one else "n/a" for one in pages]
                cells.append(" / ".join(shown))
            rows.append([f"`{label}`", *cells])
        return grid(["workload", *metrics.values()], rows)

    return Table((Part((target,), Request(("anon", "refpage"), SYNTHETIC)),), lines)


# -- huge pages --------------------------------------------------------------------------------


def thp(kernel: str) -> Table:
    """What a mechanism that refuses huge pages pays where the kernel would give them.

    Below 512 MiB of usable memory Linux 6.12 clears all settings of huge pages, that for the huge
    zero page included (``hugepage_init()`` of mm/huge_memory.c), so the guest has more.
    """
    target = f"qemu:kernel={kernel},thp=always,memory=1GiB"
    names = ("anon", "memset", "refpage")
    cases = ("dense-touch:size=64MiB", "dense-touch:size=64MiB,access=read", "sparse-write")
    parts = tuple(
        Part((where,), Request(names, cases, thp=where == target))
        for where in (target, f"qemu:kernel={kernel},thp=never,memory=1GiB")
    )

    def lines(found: Found) -> list[str]:
        labels = dict.fromkeys(label for _, label, _ in found.rows)
        rows = []
        for label, name in product(labels, names):
            cells = []
            for part in parts:
                (where,) = part.targets
                cells += [found.text(where, label, name, m) for m in ("time", "faults", "rss")]
            rows.append([f"`{label}`", name, *cells])
        header = [
            f"{m}, {s}" for s in ("always", "never") for m in ("instructions", "faults", "RSS")
        ]
        return grid(["workload", "mechanism", *header], rows)

    return Table(parts, lines)


# -- userfaultfd -------------------------------------------------------------------------------


def uffd(kernel: str) -> Table:
    """The comparison that was suspected and not measured."""
    target = f"qemu:kernel={kernel}"
    names = (
        *("anon", "refpage", "refpage-mmap", "refpage-dev", "memset"),
        *("memfd", "memfd:block=16", "memfd:block=512", "memfd-full", *UFFD),
    )
    cases = ("sparse-write", "dense-write", "dense-read", "fork-child-write")

    def lines(found: Found) -> list[str]:
        rows = []
        for name in names:
            cells = []
            for case in cases:
                ratio = found.ratio((target, case, name), (target, case, "anon"), "time")
                text = found.text(target, case, name, "time")
                cells.append(text if ratio == "n/a" else f"{text} ({ratio})")
            rows.append([f"`{name}`", *cells])
        return grid(["mechanism", *cases], rows)

    return Table((Part((target,), Request(names, cases)),), lines)


# -- running -----------------------------------------------------------------------------------

TABLES = {"v4": v4, "faults": faults, "memory": memory, "thp": thp, "uffd": uffd}


def measure(part: Part, path: Path, progress: Watcher) -> tuple[Measurement, ...]:
    """What the journal has, measured now as far as it does not."""
    if path.exists() and journals.read(path).complete:
        return journals.read(path).measurements()
    if path.exists():
        journal = Journal.resume(path)
    else:
        header = Header(
            refbench=VERSION,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            targets=part.targets,
            request=part.request,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        journal = Journal.create(path, header)
    with journal:
        execute(registry(), part.targets, part.request, journal, progress)
        return journal.content().measurements()


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--kernel", default="patched", help="the kernel's name or image")
    parser.add_argument("-o", "--output", type=Path, default=ROOT, help=f"default: {ROOT}")
    args = parser.parse_args()
    table = TABLES[args.table](args.kernel)
    progress = Watcher(Screen(Console(), Console(stderr=True), False, False), None, None)
    measurements: list[Measurement] = []
    for number, part in enumerate(table.parts, 1):
        path = args.output / f"{args.table}-{number}.jsonl"
        try:
            measurements += measure(part, path, progress)
        except RefbenchError as error:
            sys.stderr.write(f"Left out: {error}\n")
    if not measurements:
        sys.exit("Error: nothing could be measured.")
    sys.stdout.write("\n".join(table.lines(Found.of(measurements))) + "\n")


if __name__ == "__main__":
    main()
