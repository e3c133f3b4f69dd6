"""What a real program did with its heap, replayed: on every target."""

from benchmarks.common import PDFIUM_TRACE_CASES, Suite, axes, tracked


class PdfiumTrace(Suite):
    """The headline metrics of ``pdfium-trace``."""

    params = axes(PDFIUM_TRACE_CASES)
    track_time_replay = tracked("time.replay")
    track_hwm = tracked("hwm")
    track_lost = tracked("lost")
    track_rss_peak = tracked("rss.peak")
    track_traps = tracked("traps")
    track_syscalls = tracked("syscalls")
