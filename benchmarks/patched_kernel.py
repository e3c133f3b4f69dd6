"""What the patched kernel costs: a clean build, a boot, and a cell that does nearly nothing.

The aims are four minutes on two processors, four seconds under an emulator and 60 ms.
"""

from collections.abc import Callable
from typing import Any

from benchmarks.common import MEASURING
from refbench import asv

Costs = dict[str, tuple[float, ...]]


def spent(what: str) -> Callable[..., Any]:
    """A benchmark that hands asv the seconds of one of them."""

    def track(_: "PatchedKernel", costs: Costs) -> Any:
        return {"samples": list(costs[what]), "number": 1}

    setattr(track, "unit", "seconds")  # noqa: B010
    return track


class PatchedKernel:
    """Seconds of this machine."""

    type = "time"
    version = "1"
    timeout = 60.0

    def setup_cache(self) -> Costs:
        """All of them; none where it cannot be built or booted."""
        if not hasattr(asv, "patched_kernel"):
            return {}
        return asv.patched_kernel(version=1) or {}

    setattr(setup_cache, "timeout", MEASURING)  # noqa: B010

    def setup(self, costs: Costs) -> None:
        """Raise NotImplementedError, which asv shows as n/a, where there is nothing to read."""
        if not costs:
            raise NotImplementedError

    track_build = spent("build")
    track_boot = spent("boot")
    track_overhead = spent("overhead")
