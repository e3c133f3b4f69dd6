"""Heap traces: recorded from any program, and compiled to programs. See docs/trace-format.md."""

from refbench.trace.compiling import compile_trace
from refbench.trace.format import Events, Kind
from refbench.trace.reader import Trace, open_trace

__all__ = ["Events", "Kind", "Trace", "compile_trace", "open_trace"]
