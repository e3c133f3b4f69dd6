"""Record the data set on which the error rates of ``refbench compare`` are computed.

    python scripts/make_compare_dataset.py [--runs 80] [tests/data/compare.jsonl.gz]

It measures ten cells on this machine with ``refbench`` itself, in rounds of random order, and
writes the journal as it is, compressed. Nothing is left out, and nothing is edited but the local
part of the kernel's release: the noise of the machine that it runs on is what the rates are about.
"""  # noqa: INP001

from __future__ import annotations

import argparse
import gzip
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from refbench.grammar import Spec
from refbench.history import published
from refbench.journal import Header, Journal, read
from refbench.plan import Plan, Request
from refbench.plugins import registry
from refbench.runner import execute
from refbench.samples import Run
from refbench.version import VERSION
from refbench.words import Capabilities, Cell

MECHANISMS = ("anon", "memset", "memfd:block=16", "uffd:events=fork", "uffd-sigbus:atfork")
CASES = ("sparse-write", "fork-child-write")
DEFAULT = Path(__file__).parent.parent / "tests" / "data" / "compare.jsonl.gz"


class Rounds:
    """Prints the number of each round; the runner calls it between runs."""

    def opened(self, target: Spec, capabilities: Capabilities, plan: Plan) -> None:
        """A target is open and planned."""
        sys.stderr.write(f"{target}, {capabilities.kernel}: {len(plan.cells)} cells\n")

    def started(self, cell: Cell, round_: int) -> None:
        """A run begins."""

    def finished(self, cell: Cell, round_: int, run: Run) -> None:
        """A run is in the journal."""
        trouble = f" {cell.label} {cell.mechanism}: {run.failure.message}" if run.failure else ""
        sys.stderr.write(f"\rround {round_ + 1}{trouble}")

    def note(self, text: str) -> None:
        """Something that the user should know."""
        sys.stderr.write(f"\n{text}\n")


def main() -> None:
    """Measure and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("path", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--runs", type=int, default=80)
    options = parser.parse_args()
    request = Request(mechanisms=MECHANISMS, workloads=CASES, runs=options.runs)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    header = Header(refbench=VERSION, started=started, targets=("host",), request=request)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        with Journal.create(path, header) as journal:
            execute(registry(), ("host",), request, journal, Rounds())
        content = read(path)
        text = path.read_bytes()
        for session in content.sessions:
            release = published(session.environment).kernel
            text = text.replace(session.environment.kernel.encode(), release.encode())
        data = gzip.compress(text, 9, mtime=0)
    options.path.parent.mkdir(parents=True, exist_ok=True)
    options.path.write_bytes(data)
    sys.stderr.write(f"\n{options.path}: {len(content.runs)} runs, {len(data) / 1024:.0f} KiB\n")


if __name__ == "__main__":
    main()
