"""What refbench itself costs: wall time of a warm cell minus what the agent itself spent."""

from benchmarks.common import Suite, axes, tracked


class Overhead(Suite):
    """Seconds a run; the aim on the host is a median of at most 3 ms."""

    params = axes(("dense-write", "sparse-write"))
    track_overhead = tracked("overhead")

    def setup(self, journal: str, target: str, mechanism: str, case: str) -> None:
        """n/a also for a model, all of whose time is its own."""
        self.read(journal, target, mechanism, case, "overhead")
