"""The command line. What a command does is in the rest of refbench; what it says is here."""

from refbench.cli.program import main

__all__ = ["main"]
