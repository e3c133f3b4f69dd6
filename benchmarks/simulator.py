"""What the simulator itself costs, and how that grows with the size: doubled ten times.

The largest of each: every 16th page of 8 TiB; every 2048th of them, a million, in random order;
every 4096th; a million scattered pages of 8 TiB; every page of 64 GiB; a parent of a thousand
children. The aims are one second and 100 MB, but ten seconds for the random ones.
"""

from typing import Any

from benchmarks.common import MEASURING
from refbench import asv

PAGE = 4096
MIB, GIB = 1 << 20, 1 << 30
MECHANISMS = ("anon", "memfd-full", "memset", "refpage", "segv", "uffd", "uffd-sigbus")
PROGRAMS = ("dense", "forks", "random", "scattered", "sparse-16", "sparse-4096")
DOUBLED = tuple(range(11))

Costs = dict[tuple[str, str, int], tuple[tuple[float, ...], int]]


def program(name: str, doubled: int) -> str:
    """The text of the program of that name, its size doubled so often."""
    times = 1 << doubled
    size = 8 * GIB * times
    match name:
        case "dense":
            size = 64 * MIB * times
            steps = [f"touch 0 0 {size} write {PAGE}"]
        case "forks":
            size = GIB
            child = f"touch 0 0 {size} write {8 * PAGE}"
            steps = [f"touch 0 0 {size} write {4 * PAGE}", f"repeat {times}"]
            steps += ["fork", child, "parent", "end", "end"]
        case "random":
            steps = [f"touch 0 0 {size} write {2048 * PAGE} order=random seed=1"]
        case "scattered":
            steps = [f"touch 0 0 {size} write {PAGE} order=random seed=1 count={1000 * times}"]
        case _:
            stride = int(name.partition("-")[2]) * PAGE
            steps = [f"touch 0 0 {size} write {stride}"]
    lines = ["refbench-program 1", f"name {name}-{doubled}", "phase map", f"map 0 {size}"]
    lines += ["phase touch", *steps, "measure touch", "phase unmap", f"unmap 0 0 {size}"]
    return "\n".join([*lines, "phase -", ""])


class Growth:
    """Seconds and bytes of working one program out."""

    param_names = ("program", "mechanism", "doubled")
    params = (PROGRAMS, MECHANISMS, DOUBLED)
    version = "1"
    timeout = 60.0

    def setup_cache(self) -> Costs:
        """All of them; none where there is no simulator yet."""
        found: Costs = {}
        if not hasattr(asv, "worked_out"):
            return found
        for name in PROGRAMS:
            for mechanism in MECHANISMS:
                for doubled in DOUBLED:
                    cost = asv.worked_out(program(name, doubled), mechanism, version=1)
                    if cost is not None:
                        found[name, mechanism, doubled] = cost
        return found

    setattr(setup_cache, "timeout", MEASURING)  # noqa: B010

    def setup(self, costs: Costs, name: str, mechanism: str, doubled: int) -> None:
        """Raise NotImplementedError, which asv shows as n/a, where there is nothing to read."""
        if (name, mechanism, doubled) not in costs:
            raise NotImplementedError

    def track_time(self, costs: Costs, name: str, mechanism: str, doubled: int) -> Any:
        seconds, _ = costs[name, mechanism, doubled]
        return {"samples": list(seconds), "number": 1}

    track_time.type = "time"  # type: ignore[attr-defined]
    track_time.unit = "seconds"  # type: ignore[attr-defined]

    def track_memory(self, costs: Costs, name: str, mechanism: str, doubled: int) -> float:
        return float(costs[name, mechanism, doubled][1])

    track_memory.unit = "bytes"  # type: ignore[attr-defined]
