"""The kernels that tests boot; in the user's own artefact cache, so that each is built once."""

from __future__ import annotations

import functools
from pathlib import Path

import platformdirs

from refbench.cache import Cache
from refbench.errors import BackendError
from refbench.vm import kernels
from refbench.vm.kernels import KIND, Kernel
from refbench_qemu.kernel.build import built
from refbench_qemu.kernel.recipe import Order, is_current

SECONDS = 1800
"""The time limit of a test that may be the one for which a kernel is built."""
ORDERS = {
    "patched": Order(),
    "patched-debug": Order(config="debug"),
    "v1": Order(patches=("v1",)),
}


def home() -> Path:
    """The root of the user's own cache, whatever cache the tests use for the rest."""
    return Path(platformdirs.user_cache_dir("refbench"))


@functools.cache
def kernel(name: str = "patched") -> Kernel:
    """A kernel of today's patches by its name, from the user's cache or built now."""
    cache = Cache(home())
    try:
        found = kernels.find(name, ORDERS[name].arch, cache)
        if is_current(found):
            return found
    except BackendError:
        pass
    return built(ORDERS[name], cache)


def show(cache: Path) -> None:
    """Let ``refbench`` find those kernels in another cache."""
    place = home() / KIND
    place.mkdir(parents=True, exist_ok=True)
    if not (cache / KIND).exists():
        (cache / KIND).symlink_to(place)
