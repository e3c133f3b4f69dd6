"""The program ``refbench``: its group of commands, and what becomes of an error."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
import platformdirs

from refbench.cli.screen import Interrupted, complain
from refbench.errors import RefbenchError, StorageError
from refbench.housekeeping import sweep
from refbench.plugins import PluginFault, Registry, registry
from refbench.version import VERSION

DEFECT = 70
"""Exit code of a defect of refbench itself: EX_SOFTWARE of sysexits.h."""
INTERRUPTED = Interrupted.exit_code
_FULL = {errno.ENOSPC, errno.EDQUOT}
BROKEN_PIPE = 141
"""Exit code when the reader of standard output went away: 128 + SIGPIPE, as for a shell's."""

COMMANDS = {
    "run": "refbench.cli.run",
    "plan": "refbench.cli.planning",
    "check": "refbench.cli.checking",
    "compare": "refbench.cli.comparing",
    "report": "refbench.cli.reporting",
    "reproduce": "refbench.cli.reproduce",
    "trace": "refbench.cli.trace",
    "backends": "refbench.cli.backends",
    "mechanisms": "refbench.cli.mechanisms",
    "workloads": "refbench.cli.workloads",
    "doctor": "refbench.cli.doctor",
}
"""Our own commands and the modules whose ``command`` they are, loaded when asked for."""

_EPILOG = """\b
Examples:
  refbench run                                  every mechanism, every case, on this machine
  refbench run -m anon,memset,uffd* -w sparse-touch:size=1GiB --budget 60s
  refbench run --resume                         go on with the newest unfinished run
  refbench check -m segv                        is it right, before it is fast
  refbench compare reports/A reports/B

\b
Exit codes:
  0 fine              3 a backend cannot be used    70 a defect of refbench
  1 it says no        4 a file cannot be written   130 interrupted
  2 wrong usage       5 nothing could be measured  141 the reader went away
"It says no": check found an unexpected verdict, compare a regression,
doctor something that makes measuring impossible.
"""


class Program(click.Group):
    """Our own commands, and those of plugins behind them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, ours first."""
        return [*COMMANDS, *(name for name in sorted(registry().commands) if name not in COMMANDS)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name; a plugin never replaces one of ours."""
        if cmd_name in COMMANDS:
            command = importlib.import_module(COMMANDS[cmd_name]).command
            assert isinstance(command, click.Command)
            return command
        return registry().commands.get(cmd_name)

    def invoke(self, ctx: click.Context) -> None:
        """Run the command. What it returns means nothing: exit codes are raised."""
        super().invoke(ctx)


def faults(plugins: Registry) -> tuple[PluginFault, ...]:
    """The faults of all plugins, those among them whose commands have the names of ours."""
    taken = (
        PluginFault(
            plugins.origins[f"command {name}"],
            "",
            f"its command {name!r} has the name of one of refbench's own and is left out",
            "Give the command another name.",
        )
        for name in plugins.commands
        if name in COMMANDS
    )
    return (*plugins.faults, *taken)


@click.group(
    cls=Program,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(VERSION, prog_name="refbench")
def group() -> None:
    """What does it cost to give fresh memory a non-zero initial content, and which mechanism
    should do it?

    refbench measures the same workloads under many mechanisms, on many targets. A target, a
    mechanism and a workload are all written NAME:KEY=VALUE,KEY=VALUE.
    """
    for problem in sweep().problems:
        complain(problem)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``refbench`` with ``arguments``, by default those of the process; the exit code.

    No exception leaves it: an error of refbench's tree becomes one paragraph on standard error
    and its exit code, anything else a defect with its traceback in a file.
    """
    try:
        code = group.main(arguments, prog_name="refbench", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        return _gone()
    except SystemExit as leaving:
        if isinstance(leaving.__context__, BrokenPipeError):
            return _gone()
        raise
    except RefbenchError as error:
        complain(error.message, error.remedy)
        return error.exit_code
    except click.ClickException as error:
        return _usage(error)
    except (click.Abort, KeyboardInterrupt):
        complain("Interrupted.")
        return INTERRUPTED
    except OSError as error:
        return _unwritten(error) if error.errno in _FULL else _defect(error)
    except Exception as error:
        return _defect(error)
    return code if isinstance(code, int) else 0


def _usage(error: click.ClickException) -> int:
    """Click's own errors, in the style of ours; no command at all is a question for help."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.message, err=True)
        return error.exit_code
    remedy = ""
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "refbench"
        remedy = f"`{path} --help` says what there is."
    message = error.format_message()
    complain(message if message.endswith((".", "?", "!")) else f"{message}.", remedy)
    return error.exit_code


def _gone() -> int:
    """Nobody reads any more."""
    _abandon_output()
    return BROKEN_PIPE


def _unwritten(error: OSError) -> int:
    """A disk is full, most likely the one behind standard output."""
    _abandon_output()
    where = f" to {error.filename}" if error.filename else ""
    complain(
        f"The output cannot be written{where}: {error.strerror}.",
        "Free some space, or write to another place.",
    )
    return StorageError.exit_code


def _abandon_output() -> None:
    """The interpreter's own flush at exit must not complain once more."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _defect(error: Exception) -> int:
    trace = "".join(traceback.format_exception(error))
    what = f"This is a defect of refbench, not yours: {type(error).__name__}: {error}."
    if os.environ.get("REFBENCH_DEBUG", "") not in {"", "0"}:
        click.echo(trace, err=True)
        complain(what, "The traceback is above.")
        return DEFECT
    text = f"refbench {VERSION}, Python {sys.version}\n{sys.argv}\n\n{trace}"
    complain(what, f"{_where(error)} {_kept(text)}")
    return DEFECT


def _where(error: Exception) -> str:
    """The last place in refbench that it came through."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "refbench" in f.filename]
    if not frames:
        return ""
    return f"It came through {Path(frames[-1].filename).name}, line {frames[-1].lineno}."


def _kept(text: str) -> str:
    """Write a traceback to a file and say where it is."""
    name = f"defect-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}.txt"
    for folder in (Path(platformdirs.user_log_dir("refbench")), Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        except OSError:
            continue
        return f"Please report it with {folder / name}; REFBENCH_DEBUG=1 shows the traceback."
    return "Run it again with REFBENCH_DEBUG=1 and report the traceback."
