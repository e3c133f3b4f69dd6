"""The kernels that tests boot."""

from __future__ import annotations

import functools
import os

from refbench.cache import Cache
from refbench.vm import kernels
from refbench.vm.kernels import Kernel
from refbench_qemu.kernel.build import built
from refbench_qemu.kernel.recipe import Order

SECONDS = 900
"""The time limit of a test that may be the one for which the kernel is built."""
VARIABLE = "REFBENCH_TEST_KERNEL"
"""The path of an image that tests take instead; it saves the minutes of a build."""


@functools.cache
def patched_kernel() -> Kernel:
    """The patched kernel with the smallest configuration, from the test's cache or built now."""
    chosen = os.environ.get(VARIABLE)
    return kernels.find(chosen) if chosen else built(Order(), Cache.default())
