"""What the simulator itself costs, and how that grows with the size: doubled ten times.

The largest of each: every 16th page of 8 TiB; every 4096th; a million pages of 8 TiB in random
order; every page of 64 GiB; a parent of a thousand children. The aims are one second and 100 MB,
but ten seconds for the random one.
"""

from typing import Any

from refbench import asv
from refbench.program import Fork, Map, Measure, Phase, Program, Repeat, Step, Touch, Unmap

PAGE = 4096
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
MECHANISMS = ("anon", "memfd-full", "memset", "uffd-sigbus")
PROGRAMS = ("dense", "forks", "random", "sparse-16", "sparse-4096")
DOUBLED = tuple(range(11))


def program(name: str, doubled: int) -> Program:
    """The program of that name, its size doubled so often."""
    times = 1 << doubled
    size = {"dense": 64 * MIB, "forks": MIB << (10 - doubled)}.get(name, 8 * GIB) * times
    if name == "dense":
        steps: tuple[Step, ...] = (Touch(0, 0, size, "write", PAGE),)
    elif name == "random":
        steps = (Touch(0, 0, size, "write", PAGE, order="random", seed=1, count=1000 * times),)
    elif name == "forks":
        child = (Touch(0, 0, size, "write", 8 * PAGE),)
        steps = (Touch(0, 0, size, "write", 4 * PAGE), Repeat(times, (Fork(child),)))
    else:
        stride = int(name.partition("-")[2]) * PAGE
        steps = (Touch(0, 0, size, "write", stride),)
    around = (Phase("map"), Map(0, size), Phase("touch"), *steps, Measure("touch"))
    return Program(f"{name}-{doubled}", (*around, Phase("unmap"), Unmap(0, 0, size), Phase()))


class Growth:
    """Seconds and bytes of working one program out."""

    param_names = ("program", "mechanism", "doubled")
    params = (PROGRAMS, MECHANISMS, DOUBLED)
    version = "1"
    timeout = 120.0

    def setup(self, *_: Any) -> None:
        """Nothing to compare with where there is no simulator yet."""
        if not hasattr(asv, "worked_out"):
            raise NotImplementedError

    def track_time(self, name: str, mechanism: str, doubled: int) -> Any:
        seconds, _ = asv.worked_out(program(name, doubled), mechanism, version=1)
        return {"samples": list(seconds), "number": 1}

    track_time.type = "time"  # type: ignore[attr-defined]
    track_time.unit = "seconds"  # type: ignore[attr-defined]

    def track_memory(self, name: str, mechanism: str, doubled: int) -> float:
        return float(asv.worked_out(program(name, doubled), mechanism, runs=0, version=1)[1])

    track_memory.unit = "bytes"  # type: ignore[attr-defined]
