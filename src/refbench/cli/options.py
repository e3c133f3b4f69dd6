"""Options that several commands share, and the request that they add up to."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from refbench.errors import UsageError
from refbench.grammar import Spec, resolve, suggest
from refbench.plan import (
    COUNTED_ITERATIONS,
    COUNTED_RUNS,
    DEFAULT_ITERATIONS,
    DEFAULT_RUNS,
    Request,
    files_of,
    select_mechanisms,
    select_workloads,
)
from refbench.plugins import Registry
from refbench.program import parse
from refbench.words import Clock, Pattern

DEFAULT_TARGET = "host"
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)\Z")
_SECONDS = {"": 1.0, "s": 1.0, "sec": 1.0, "ms": 1e-3, "m": 60.0, "min": 60.0, "h": 3600.0}

target_option = click.option(
    "-b",
    "--backend",
    "targets",
    metavar="TARGET",
    multiple=True,
    help=f"Where: a backend with its options. Repeatable. [default: {DEFAULT_TARGET}]",
)
mechanism_option = click.option(
    "-m",
    "--mechanism",
    "mechanisms",
    metavar="MECHANISM[,...]",
    multiple=True,
    help="Which mechanisms, globs too: anon,memfd:block=16,uffd*.",
)

_SELECTION = (
    target_option,
    mechanism_option,
    click.option(
        "-w",
        "--workload",
        "workloads",
        metavar="WORKLOAD[,...]",
        multiple=True,
        help="Which cases or workloads, globs too: sparse-*,dense-touch:size=1GiB.",
    ),
    click.option(
        "-p",
        "--parameter",
        "parameters",
        metavar="KEY=VALUE[,...]",
        multiple=True,
        help="Put over the parameters of every workload: size=64MiB,stride=4.",
    ),
    click.option(
        "--program",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Measure a program of your own (docs/program-format.md) instead of workloads.",
    ),
    click.option(
        "--file",
        "files",
        metavar="NAME=PATH",
        multiple=True,
        help="Where a file is that the program of --program brings along.",
    ),
    click.option(
        "--pattern",
        default="byte:0xAA",
        show_default=True,
        help="Initial content of a page: byte:0xAA, file:PATH, tag:5 or a sum of them.",
    ),
    click.option("--thp", is_flag=True, help="Let the kernel use transparent huge pages."),
    click.option(
        "--runs",
        type=int,
        default=None,
        help=f"Fresh processes a cell. [default: {DEFAULT_RUNS}; on a clock that counts"
        f" instructions {COUNTED_RUNS[Clock.INSTRUCTIONS]}, of a model"
        f" {COUNTED_RUNS[Clock.MODELLED]}]",
    ),
    click.option(
        "--iterations",
        type=int,
        default=None,
        help="Samples a process, after one warm-up sample. "
        f"[default: {DEFAULT_ITERATIONS}; on a clock that counts {COUNTED_ITERATIONS}]",
    ),
    click.option(
        "--seed", type=int, default=0, show_default=True, help="Of the order of the cells."
    ),
)
SELECTING = frozenset(
    {
        "targets",
        "mechanisms",
        "workloads",
        "parameters",
        "program",
        "files",
        "pattern",
        "thp",
        "runs",
        "iterations",
        "seed",
    }
)
"""The parameters that :func:`with_selection` adds: what a journal's header holds."""


def with_selection(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command every option that says what is to be measured."""
    for option in reversed(_SELECTION):
        function = option(function)
    return function


def make_request(options: Mapping[str, Any]) -> Request:
    """The request that the options of :func:`with_selection` are.

    :raises UsageError: when they contradict one another or a file cannot be read.
    """
    program: Path | None = options["program"]
    if program is not None and (options["workloads"] or options["parameters"]):
        raise UsageError(
            "--program takes the place of workloads and their parameters.",
            remedy="Give either --program, or -w and -p.",
        )
    return Request(
        mechanisms=options["mechanisms"],
        workloads=options["workloads"],
        parameters=parse_parameters(options["parameters"]),
        program=_program_text(program) if program is not None else "",
        files=parse_files(options.get("files", ()), program),
        pattern=Pattern.parse(options["pattern"]).spelled(),
        thp=options["thp"],
        runs=options["runs"],
        iterations=options["iterations"],
        seed=options["seed"],
    )


def parse_files(texts: Iterable[str], program: Path | None) -> tuple[tuple[str, str], ...]:
    """``NAME=PATH`` texts as pairs, the paths absolute.

    :raises UsageError: when a text is none, or there is no program that wants it.
    """
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if program is None or not (name and equals and path):
            raise UsageError(
                f"--file {text!r} is not for anything."
                if program is None
                else f"--file {text!r} is no NAME=PATH.",
                remedy="Write --program FILE --file NAME=PATH for a line 'file NAME' of it.",
            )
        pairs[name] = str(Path(path).expanduser().absolute())
    return tuple(pairs.items())


def parse_parameters(texts: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """``key=value,key=value`` texts as pairs; a later value of a key replaces an earlier one.

    :raises UsageError: when a text does not follow the grammar.
    """
    pairs: dict[str, str] = {}
    for text in texts:
        try:
            spec = Spec.parse(f"p:{text}", what="parameter")
        except UsageError as error:
            raise UsageError(
                f"-p {text!r} is no list of parameters.",
                remedy="Write key=value,key=value, each key once, for example -p size=64MiB.",
            ) from error
        pairs.update(spec.options)
    return tuple(pairs.items())


def expand_targets(texts: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """The targets that ``-b`` names, globs over the names of backends resolved, each once.

    :raises UsageError: when a glob matches none.
    """
    names = sorted(known)
    chosen: dict[str, None] = {}
    for text in texts:
        if ":" in text or not any(character in text for character in "*?["):
            chosen[text] = None
            continue
        matching = fnmatch.filter(names, text)
        if not matching:
            raise UsageError(f"No backend matches {text!r}.", remedy=suggest(text, names))
        chosen.update(dict.fromkeys(matching))
    return tuple(chosen) or (DEFAULT_TARGET,)


def check_names(plugins: Registry, targets: Iterable[str], request: Request) -> None:
    """Find what does not exist before a target is opened or a file is written.

    :raises UsageError: for a target, mechanism, workload, option, pattern or program.
    """
    for text in targets:
        spec = Spec.parse(text, what="target")
        resolve(spec, plugins.backend(spec).options, what="target")
    Pattern.parse(request.pattern)
    select_mechanisms(plugins, request.mechanisms)
    if request.program:
        parse(request.program, files=files_of(request))
    else:
        select_workloads(plugins, request.workloads, request.parameters)


class Duration(click.ParamType[float]):
    """Seconds from ``90``, ``120s``, ``2m``, ``1.5h``."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number of seconds, more than 0."""
        if isinstance(value, float):
            return value
        match = _DURATION.match(str(value).strip().lower())
        seconds = float(match[1]) * _SECONDS.get(match[2], 0.0) if match else 0.0
        if seconds <= 0:
            self.fail(f"{value!r} is no time; write for example 120s or 2m", param, ctx)
        return seconds


def _program_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"The program {path} cannot be read: {error.strerror}.",
            remedy="Give the path of a program file; docs/program-format.md says what is in one.",
        ) from None
    except UnicodeDecodeError:
        raise UsageError(
            f"The program {path} is not UTF-8 text.",
            remedy="Give the path of a program file; docs/program-format.md says what is in one.",
        ) from None
