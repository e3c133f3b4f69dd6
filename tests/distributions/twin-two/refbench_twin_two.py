"""One of two plugins that claim the same backend name."""

from collections.abc import Iterable, Sequence

from refbench.backend import Backend, Session
from refbench.errors import BackendError
from refbench.grammar import Option, Values
from refbench.hookspecs import hookimpl
from refbench.words import Availability

refbench_api_version = 1


class Twin:
    """A backend that is nowhere available."""

    name = "twin"
    summary = "twin two"
    options: Sequence[Option] = ()

    def probe(self) -> Availability:
        """Never here."""
        return Availability(False, "twin two is out", "Wait.")

    def open(self, options: Values) -> Session:
        """Never opens."""
        raise BackendError("Twin two cannot be opened.", remedy="Wait.")


@hookimpl
def refbench_backends() -> Iterable[Backend]:
    """The twin."""
    return (Twin(),)
