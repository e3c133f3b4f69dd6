"""What a page fault of each mechanism executes, function by function, on a kernel in QEMU.

    scripts/fault_profile.py -m anon,refpage
    scripts/fault_profile.py -m anon,memfd-full,refpage --access read -b qemu:init-on-alloc=yes

QEMU logs every instruction for a while as a guest takes one fault after the other; what lies
between the entry of the kernel's page fault handler and the return to the program is one fault.
Only faults of the loop that touches the pages are counted, and none that an interrupt fell into.
Prints Markdown: the mean number of instructions, for the functions that most are spent in.
"""  # noqa: INP001

from __future__ import annotations

import argparse
import bisect
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from refbench.errors import BackendError, RefbenchError
from refbench.grammar import Spec
from refbench.plan import select_mechanisms
from refbench.plugins import registry
from refbench.program import parse
from refbench.report import markdown
from refbench.runner import open_target
from refbench.vm.kernels import Kernel
from refbench.vm.qmp import Qmp
from refbench.words import Cell, Pattern
from refbench_qemu.session import QemuSession

ENTRY = "asm_exc_page_fault"
FAULTS = 400
MOST_SLICES = 40
SLICE = 0.5
"""Seconds between two looks at the log: it grows by some 30 MB a second."""
STARTING = 2.0
"""Seconds after which the agent, which runs unlogged until then, is in its loop."""
SIZE = 4 << 20
_PROGRAM = """refbench-program 1
name faults
repeat {times}
map 0 {size}
touch 0 0 {size} {access} 4096
unmap 0 0 {size}
end
"""
_TIMES = {"read": 1200, "write": 400}
"""Repetitions that an emulator is busy with for some ten seconds."""
_LINE = re.compile(r"^Trace \d+: \S+ \[[0-9a-f]+/([0-9a-f]{16})/")
_KERNEL = 1 << 63
_INTERRUPTS = ("asm_sysvec_", "asm_common_interrupt")


@dataclass(slots=True)
class Symbols:
    """The functions of a kernel; those of its modules are one."""

    addresses: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, text: str) -> Symbols:
        """From a ``System.map``."""
        lines = (line.split() for line in text.splitlines())
        found = sorted((int(words[0], 16), words[2]) for words in lines if _text(words))
        return cls([address for address, _ in found], [name for _, name in found])

    def name(self, address: int) -> str:
        """The function that an address lies in."""
        place = bisect.bisect_right(self.addresses, address)
        return self.names[place - 1] if place < len(self.names) else "(modules)"


def _text(words: list[str]) -> bool:
    return len(words) >= 3 and words[1] in "tTwW"


@dataclass(slots=True)
class Faults:
    """Whole faults in a log of addresses, by the user's instruction that they came from."""

    symbols: Symbols
    by_place: dict[int, list[Counter[str]]] = field(default_factory=dict)
    _user: int = 0
    _open: Counter[str] | None = None

    def read(self, addresses: Iterator[int]) -> None:
        """Go on with a part of the log."""
        for address in addresses:
            if address < _KERNEL:
                self._end()
                self._user = address
                continue
            name = self.symbols.name(address)
            if self._open is None and name == ENTRY:
                self._open = Counter()
            if self._open is not None:
                self._open[name] += 1

    def _end(self) -> None:
        if self._open is not None and not any(n.startswith(_INTERRUPTS) for n in self._open):
            self.by_place.setdefault(self._user, []).append(self._open)
        self._open = None

    def break_off(self) -> None:
        """What was begun in this part of the log has no end in it."""
        self._open = None

    @property
    def most(self) -> list[Counter[str]]:
        """Those of the instruction that most came from."""
        return max(self.by_place.values(), key=len, default=[])


def profile(target: str, mechanism: Spec, access: str) -> dict[str, float]:
    """Instructions of a fault of ``mechanism``, by function.

    :raises RefbenchError: when the target cannot be opened or its guest takes no such faults.
    """
    _, session = open_target(registry(), target)
    with session, tempfile.TemporaryDirectory() as folder:
        if not isinstance(session, QemuSession):
            raise BackendError(f"{target} is no guest of QEMU.", remedy="Use -b qemu:...")
        known = session.capabilities().mechanisms[mechanism.name]
        if not known.ok:
            raise BackendError(known.reason, remedy=known.remedy)
        guest = session.channel.guest()  # type: ignore[attr-defined]
        symbols = Symbols.of(_map(guest.recipe.kernel).read_text(encoding="ascii"))
        program = parse(_PROGRAM.format(size=SIZE, access=access, times=_TIMES[access]))
        cell = Cell(f"program:{program.name}", mechanism, Pattern(), program)
        running = threading.Thread(target=session.run, args=(cell, 1, 600.0), daemon=True)
        running.start()
        try:
            found = _watch(guest.machine.qmp, symbols, Path(folder))
        finally:
            running.join(600.0)
    if len(found) < FAULTS // 2:
        raise BackendError(f"{mechanism} took {len(found)} faults.", remedy="Is it in a loop?")
    total = sum(found, Counter[str]())
    return {name: count / len(found) for name, count in total.items()}


def _map(kernel: Kernel) -> Path:
    """The list of its symbols, which is kept with a kernel or lies in its build tree."""
    for folder in kernel.image.parents[:4]:
        if (folder / "System.map").is_file():
            return folder / "System.map"
    raise BackendError(
        f"There is no System.map for {kernel.image}.",
        remedy="Take a kernel that `refbench kernel build` made, or one in its build tree.",
    )


def _watch(qmp: Qmp, symbols: Symbols, folder: Path) -> list[Counter[str]]:
    """Log the guest in slices until there are enough faults."""
    faults = Faults(symbols)
    time.sleep(STARTING)
    qmp.execute("stop")
    _say(qmp, "singlestep on")
    for number in range(MOST_SLICES):
        log = folder / f"log-{number}"
        _say(qmp, f"logfile {log}")
        _say(qmp, "log exec,nochain")
        qmp.execute("cont")
        time.sleep(SLICE)
        qmp.execute("stop")
        _say(qmp, "log none")
        faults.read(_addresses(log))
        faults.break_off()
        log.unlink()
        if len(faults.most) >= FAULTS:
            break
    _say(qmp, "singlestep off")
    qmp.execute("cont")
    return faults.most


def _say(qmp: Qmp, command: str) -> None:
    said = qmp.execute("human-monitor-command", command_line=command)
    if said:
        raise BackendError(f"QEMU refused {command!r}: {said}", remedy="QEMU 7.2 knows it.")


def _addresses(log: Path) -> Iterator[int]:
    with log.open(encoding="ascii", errors="replace") as lines:
        for line in lines:
            if match := _LINE.match(line):
                yield int(match[1], 16)


def table(profiles: dict[str, dict[str, float]], rows: int) -> list[str]:
    """Lines of Markdown, the dearest functions first."""
    names = sorted({n for p in profiles.values() for n in p}, key=lambda n: -_dearest(profiles, n))
    shown, others = names[:rows], names[rows:]
    lines = [
        [f"`{name}`", *(_number(p.get(name, 0.0)) for p in profiles.values())] for name in shown
    ]
    rest = (sum(p.get(name, 0.0) for name in others) for p in profiles.values())
    lines.append([f"{len(others)} others", *map(_number, rest)])
    lines.append(["all", *(_number(sum(p.values())) for p in profiles.values())])
    return markdown.table(["function", *(f"`{name}`" for name in profiles)], lines)


def _dearest(profiles: dict[str, dict[str, float]], name: str) -> float:
    return max(p.get(name, 0.0) for p in profiles.values())


def _number(value: float) -> str:
    return f"{value:.0f}"


def main() -> None:
    """Profile every mechanism that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-b", "--backend", default="qemu", help="a target of QEMU's")
    parser.add_argument("-m", "--mechanism", default="anon,refpage", help="commas between them")
    parser.add_argument("--access", choices=("read", "write"), default="write")
    parser.add_argument("--rows", type=int, default=14, help="functions that are shown")
    args = parser.parse_args()
    profiles = {}
    try:
        for mechanism in select_mechanisms(registry(), (args.mechanism,)):
            profiles[str(mechanism)] = profile(args.backend, mechanism, args.access)
    except RefbenchError as error:
        sys.exit(f"Error: {error}")
    sys.stdout.write("\n".join(table(profiles, args.rows)) + "\n")


if __name__ == "__main__":
    main()
