"""Is a backend right? The promises of :mod:`refbench.backend`, examined one by one.

A backend's author calls it from a test, or as ``refbench backends --verify TARGET``::

    from refbench.testing import broken

    def test_the_backend_keeps_its_promises() -> None:
        assert not broken("unshare")

What a channel must do for any program is asked with a small program of our own (the *witness*,
``native/witness.c``) in the agent's place: on a good day an agent never says a megabyte, hangs,
or takes the connection with it.
"""

from __future__ import annotations

from collections.abc import Iterator

from refbench.agent_session import AgentSession
from refbench.grammar import Spec, resolve
from refbench.plugins import registry
from refbench.testing.channel import examine_channel
from refbench.testing.finding import Finding, finding, raised
from refbench.testing.session import closed, declared, examine_session, probe

__all__ = ["Finding", "broken", "examine", "examine_channel"]


def broken(target: str) -> list[str]:
    """The broken promises of a registered backend, opened with options: ``qemu:memory=1GiB``.

    :raises UsageError: when there is no such backend or option.
    """
    return [f"{finding.promise}: {finding.broken}" for finding in examine(target) if finding.broken]


def examine(target: str) -> Iterator[Finding]:
    """Every promise of a registered backend, of its sessions and, where it runs the agent, of
    its channel.

    :raises UsageError: when there is no such backend or option.
    """
    spec = Spec.parse(target, what="target")
    backend = registry().backend(spec)
    values = resolve(spec, backend.options, what="target")
    yield finding("the backend is declared as the interface says", lambda: declared(backend))
    probed = finding("probe() says whether, and if not why and the remedy", lambda: probe(backend))
    yield probed
    if probed.broken or probed.left_out:
        return
    try:
        session = backend.open(values)
    except Exception as error:
        yield Finding("open() gives a session", raised(error))
        return
    try:
        yield from examine_session(session)
        if isinstance(session, AgentSession):
            yield from examine_channel(session.channel, session.arch)
    finally:
        session.close()
    yield finding("close() may be called twice", session.close)
    yield finding("a closed session refuses to run", lambda: closed(session))
