"""An allocation that is touched whole."""

from benchmarks.common import DENSE_CASES, Suite, axes, tracked


class DenseTouch(Suite):
    """The headline metrics of ``dense-touch``."""

    params = axes(DENSE_CASES)
    track_time = tracked("time")
    track_time_map = tracked("time.map")
    track_time_touch = tracked("time.touch")
    track_lost = tracked("lost")
    track_rss = tracked("rss")
    track_traps_touch = tracked("traps.touch")
    track_vmas = tracked("vmas")
