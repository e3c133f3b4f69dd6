"""The program that the reference page series measured itself with."""

from benchmarks.common import V4_CASES, Suite, axes, tracked


class V4Microbench(Suite):
    """The headline metrics of ``v4-microbench``."""

    params = axes(V4_CASES)
    track_time = tracked("time")
    track_hwm = tracked("hwm")
    track_lost = tracked("lost")
    track_rss = tracked("rss")
    track_traps = tracked("traps")
    track_syscalls = tracked("syscalls")
