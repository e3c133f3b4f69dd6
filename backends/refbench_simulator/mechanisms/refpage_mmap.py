"""The model of ``refpage-mmap``: MAP_REFPAGE, the first version of the series.

The reference page is a page of the process's own, at the address that
mmap(2) gets as offset. The questions that the series left open are decided so: the call takes a
reference to the page, so that unmapping it has no effect on mappings that there are, and clean
pages show it by special entries, which count nowhere. It stays the process's: what is stored
there shows. As all of the agent's own memory, the page is in no count of the program's.
"""

from __future__ import annotations

import errno

import numpy as np

from refbench.program.steps import Origin
from refbench_simulator.mechanism import Action
from refbench_simulator.mechanisms.refpage import Refpage
from refbench_simulator.model.machine import ENDLESS, File, Refusal
from refbench_simulator.model.space import AddressSpace

_NO_PAGE = ("from-mapping", "from-device", "from-unmapped", "from-inaccessible")


class RefpageMmap(Refpage):
    """One system call for each mapping, and no descriptor."""

    def setup(self, space: AddressSpace) -> None:
        """Make the page; a mapping of one page shows that there can be others."""
        super().setup(space)
        self._try_map()

    def _try_map(self) -> None:
        self.machine.system_call(what="mmap(2)")
        self.machine.system_call(what="munmap(2)")

    def make(self) -> int:
        """The process fills a page of its own."""
        self.machine.system_call(what="mmap(2)")
        return self.machine.open_file(File(ENDLESS, "special", single=True))

    def refer(self, origin: Origin) -> None:
        """The kernel takes a reference to the page when it is asked to map it.

        :raises Refusal: EFAULT where GUP finds none.
        """
        if origin in _NO_PAGE:
            raise Refusal(errno.EFAULT)
        self._try_map()
        self.give_up()
        self.file = self.machine.open_file(File(ENDLESS, "special", single=True))

    def tamper(self, action: Action) -> None:
        """Store to the page, or unmap it; it has no file that could be cut short.

        :raises Refusal: EOPNOTSUPP for that.
        """
        if action == "truncate":
            raise Refusal(errno.EOPNOTSUPP)
        if action == "unmap":
            self.machine.system_call(what="munmap(2)")
            self.give_up()
            return
        file, contents = self.machine.files[self.file], self.machine.contents
        file.content = contents.image(np.invert(contents.base(file.content)).tobytes())
