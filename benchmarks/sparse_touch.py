"""A large allocation of which every 16th page is touched."""

from benchmarks.common import SPARSE_CASES, Suite, axes, tracked


class SparseTouch(Suite):
    """The headline metrics of ``sparse-touch``."""

    params = axes(SPARSE_CASES)
    track_time = tracked("time")
    track_time_map = tracked("time.map")
    track_time_touch = tracked("time.touch")
    track_lost = tracked("lost")
    track_rss = tracked("rss")
    track_traps_touch = tracked("traps.touch")
    track_vmas = tracked("vmas")
