"""An allocation, touched in part, and then a fork."""

from benchmarks.common import FORK_CASES, Suite, axes, tracked


class ForkAfterAlloc(Suite):
    """The headline metrics of ``fork-after-alloc``."""

    params = axes(FORK_CASES)
    track_time = tracked("time")
    track_time_fork = tracked("time.fork")
    track_lost = tracked("lost")
    track_rss = tracked("rss")
    track_traps = tracked("traps")
