"""The cases of the history: frozen. A changed preset gets a new name, never the old one.

The published program of ``v4-microbench`` does a thing 1000 times, which takes minutes under the
dear mechanisms and says no more than 100 times: its cases are a tenth of it, and not measured
where nobody asks for them. The published program itself is the workload without parameters.
"""

from refbench.grammar import Spec
from refbench.words import Case


def _case(name: str, workload: str, summary: str, *, bench: bool = True) -> Case:
    return Case(name, Spec.parse(workload, what="workload"), summary, bench)


CASES: tuple[Case, ...] = (
    _case("sparse-write", "sparse-touch", "write one byte in every 16th page of 64 MiB"),
    _case("sparse-read", "sparse-touch:access=read", "read one byte in every 16th page of 64 MiB"),
    _case(
        "sparse-random",
        "sparse-touch:order=random,seed=1",
        "write one byte in every 16th page of 64 MiB, in random order",
    ),
    _case("dense-write", "dense-touch", "write one byte in every page of 16 MiB"),
    _case("dense-read", "dense-touch:access=read", "read one byte in every page of 16 MiB"),
    _case(
        "fork-child-write",
        "fork-after-alloc",
        "write every 4th page of 16 MiB, fork, the child writes every 2nd page",
    ),
    _case(
        "fork-parent-read",
        "fork-after-alloc:who=parent,access=read",
        "write every 4th page of 16 MiB, fork, the parent reads every 2nd page",
    ),
    _case(
        "churn-small",
        "alloc-churn",
        "64 times: map 1 MiB, write every 4th page, unmap; then one exit with 1 MiB mapped",
    ),
    *(
        _case(
            f"v4-{touch}",
            f"v4-microbench:touch={touch},count=100",
            f"100 times: map 4,096,000 bytes, store in {what}, unmap",
            bench=False,
        )
        for touch, what in (
            ("one", "the first page"),
            ("half", "the first half of the pages"),
            ("all", "every page"),
        )
    ),
)
