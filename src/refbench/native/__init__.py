"""The mechanisms inside this Python process: :class:`Mapping` and :func:`probe`.

::

    with Mapping(64 << 20, "byte:0xAA", "memfd:block=16") as memory:
        assert memoryview(memory)[12345] == 0xAA

The C sources in this folder are also what the agent is built from, so that importing the
package always works; its two names need the extension modules, which are optional when
refbench is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from refbench.errors import BackendError

if TYPE_CHECKING:
    from refbench.native.mapping import Counters, Mapping, probe

__all__ = ["Counters", "Mapping", "probe"]


def __getattr__(name: str) -> object:
    """Import the compiled part when it is first asked for.

    :raises BackendError: when it was not built.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from refbench.native import mapping
    except ImportError as error:
        raise BackendError(
            f"refbench.native.{name} needs the extension modules of refbench, which were not "
            f"built when it was installed ({error}).",
            remedy="On Linux, install a C compiler and Python's headers (Debian: apt-get install "
            "-y gcc libc6-dev python3-dev), then install refbench again.",
        ) from None
    return getattr(mapping, name)
