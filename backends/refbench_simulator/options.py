"""What the simulator's commands have in common on the command line."""

from __future__ import annotations

from pathlib import Path

import click

from refbench.errors import UsageError
from refbench.grammar import Spec
from refbench_simulator.target import NAME

from_option = click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Simulate the machine of this file: a machine description (`refbench machine --save`), "
    "a journal, or the directory of a run. The same as the target's option from=FILE.",
)
"""``--from FILE``; the command gets it as ``source``, a path or ``None``."""


def simulated(text: str, source: Path | None) -> Spec:
    """The target that ``text`` and ``--from`` add up to.

    :raises UsageError: when ``text`` is no target, or names a machine itself.
    """
    spec = Spec.parse(text, what="target")
    if source is None:
        return spec
    if spec.name != NAME:
        raise UsageError(
            f"--from is for the target {NAME!r}, and {text!r} is another.",
            remedy=f"Leave --from out, or give -b {NAME}.",
        )
    for name in ("from", "like"):
        if spec.get(name):
            raise UsageError(
                f"--from {source} and {name}={spec.get(name)} both say which machine is meant.",
                remedy="Give one of them.",
            )
    return spec.with_options({"from": str(source)})
