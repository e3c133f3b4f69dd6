"""What refbench itself costs: wall time of a warm cell minus what the agent itself spent."""

from benchmarks.common import CASES, Suite, axes, tracked


class Overhead(Suite):
    """Seconds a run; the aim on the host is a median of at most 3 ms."""

    params = axes(CASES)
    track_overhead = tracked("overhead")
