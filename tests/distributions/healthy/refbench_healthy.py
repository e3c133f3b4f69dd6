"""A plugin without a fault: it must work beside all the broken ones."""

from collections.abc import Iterable

from refbench.grammar import Spec
from refbench.hookspecs import hookimpl
from refbench.words import Case

refbench_api_version = 1


@hookimpl
def refbench_cases() -> Iterable[Case]:
    """One case of a built-in workload."""
    return (Case("healthy-touch", Spec.parse("sparse-touch:size=1MiB"), "a megabyte"),)
