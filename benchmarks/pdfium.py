"""A real program, libpdfium rendering a few pages, under an allocator on each mechanism."""

from benchmarks.common import PDFIUM_CASES, Suite, axes, tracked


class Pdfium(Suite):
    """The headline metrics of ``pdfium``."""

    params = axes(PDFIUM_CASES)
    track_time = tracked("time")
    track_hwm = tracked("hwm")
    track_lost = tracked("lost")
    track_rss = tracked("rss")
    track_traps = tracked("traps")
