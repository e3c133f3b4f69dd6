"""Allocations that come and go."""

from benchmarks.common import CHURN_CASES, Suite, axes, tracked


class AllocChurn(Suite):
    """The headline metrics of ``alloc-churn``."""

    params = axes(CHURN_CASES)
    track_time = tracked("time")
    track_time_map = tracked("time.map")
    track_time_touch = tracked("time.touch")
    track_time_unmap = tracked("time.unmap")
    track_lost = tracked("lost")
    track_traps = tracked("traps")
    track_syscalls = tracked("syscalls")
