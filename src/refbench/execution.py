"""What goes to the target with a program that executes real ones, and what the agent is told.

The cell's mechanism serves the executed program through an interposed allocator; the agent maps
nothing itself and goes by ``anon``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from refbench.allocators import Preload, preload
from refbench.errors import BackendError, Unsupported
from refbench.linking import libraries, loader_of
from refbench.program import Program, executed
from refbench.samples import Sample
from refbench.words import Cell

AGENT_MECHANISM = "anon"
"""What the agent itself runs under."""
PRIVATE, SUPPLIED = "private-bytes", "private-supplied-bytes"
"""What the interposed allocator reports of an executed program at its end."""
_ALWAYS = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
_PLACE = re.compile(r"@([A-Za-z0-9][A-Za-z0-9._-]*)")


@dataclass(frozen=True, slots=True)
class Execution:
    """The files that travel, and the variables of the executed program."""

    loader: Path
    libraries: tuple[Path, ...]
    """What the program, its files and the preloaded objects are linked with."""
    files: Mapping[str, Path]
    """Of the program, by name."""
    preload: Preload
    environment: Mapping[str, str]

    def arguments(self, put: Callable[[Path], str]) -> list[str]:
        """The agent's arguments; ``put`` brings a file over and gives its place there."""
        places = {name: put(path) for name, path in self.preload.files.items()}
        given = {name: _with_places(text, places) for name, text in self.environment.items()}
        if self.preload.preload:
            # Inherited, so that what the program itself executes has the allocator, too.
            given["LD_PRELOAD"] = ":".join(places[name] for name in self.preload.preload)
        argv = ["--loader", put(self.loader)]
        if self.libraries:
            argv += ["--libraries", ":".join(map(put, self.libraries))]
        for name, path in self.files.items():
            argv += ["--file", f"{name}={put(path)}"]
        for name, value in given.items():
            argv += ["--environment", f"{name}={value}"]
        return argv


def executes(program: Program) -> bool:
    """Whether a program executes others."""
    return next(executed(program.steps), None) is not None


def plan_execution(cell: Cell, arch: str) -> Execution:
    """What ``cell``, whose program executes others, needs on a target of ``arch``.

    :raises Unsupported: when its mechanism or its files are not for that.
    """
    program = cell.program
    first = next(executed(program.steps))
    loader = loader_of(program.files[first.file], arch)
    for step in executed(program.steps):
        loader_of(program.files[step.file], arch)
    try:
        under = preload(cell.mechanism, cell.pattern, arch)
    except BackendError as error:
        # One allocator that is not to be had is no reason to give up the others.
        raise Unsupported(error.message, remedy=error.remedy) from error
    return Execution(
        loader=loader,
        libraries=libraries(loader, (*program.files.values(), *under.files.values())),
        files=program.files,
        preload=under,
        environment={**_ALWAYS, **under.environment, **program.environment},
    )


def refuse_other_memory(program: Program, samples: Iterable[Sample]) -> None:
    """Say no to samples in which too little of an executed program's memory is the mechanism's.

    The allocator reports both sizes when the program ends; what no allocator of ours served is
    not judged.

    :raises Unsupported: with the share that there was.
    """
    least = max((step.supplied for step in executed(program.steps)), default=0)
    for sample in samples:
        private = sample.values.get(PRIVATE, 0)
        supplied = sample.values.get(SUPPLIED, private)
        if 100 * supplied < least * private:
            raise Unsupported(
                f"The mechanism supplied {100 * supplied / private:.1f} % of the program's private "
                f"memory ({supplied} of {private} bytes), and {least} % is the least that counts.",
                remedy="Look at what maps memory beside malloc: strace -e trace=%memory.",
            )


def _with_places(text: str, places: Mapping[str, str]) -> str:
    """``@name`` of a file that travels becomes its place."""
    return _PLACE.sub(lambda match: places.get(match[1], match[0]), text)
