"""The model of ``refpage-dev``: /dev/refpage, a module's device whose every page is the same one.

The *naive* fault handler returns the page: an ordinary entry that takes a
reference and counts in ``_mapcount`` and in RssFile. The *safe* one puts a special entry in
itself (``vmf_insert_mixed()``), which counts nowhere; its VMAs are VM_MIXEDMAP.
"""

from __future__ import annotations

import errno

from refbench.grammar import Values
from refbench_simulator import rules
from refbench_simulator.cutting import Traits
from refbench_simulator.knobs import Kernel
from refbench_simulator.mechanism import Action
from refbench_simulator.mechanisms.refpage import Refpage
from refbench_simulator.model.machine import ENDLESS, File, Machine, Refusal
from refbench_simulator.model.space import Flag


class RefpageDev(Refpage):
    """The device is opened and told the content; then one system call for each mapping."""

    def __init__(self, machine: Machine, options: Values) -> None:
        super().__init__(machine, options)
        self.naive = options.text("handler") == "naive"
        self.flags = Flag(0) if self.naive else Flag.MIXEDMAP

    @classmethod
    def traits(cls, options: Values, kernel: Kernel) -> Traits:
        """The kernel's own loads go no further than to the first page without a page."""
        return Traits(pageless=options.text("handler") != "naive")

    def make(self) -> int:
        """open(2), the choice of a handler and the write(2) of the content."""
        self.machine.system_call(what="open(2) of /dev/refpage")
        self.machine.system_call(what="ioctl(2)")
        self.machine.system_call(what="write(2) of the content")
        self.machine.ledger.add(rules.REFERENCE_PAGE, file=1, alloc=1, copy=1)
        return self.machine.open_file(
            File(ENDLESS, "device" if self.naive else "special", single=True, allocated=1)
        )

    def tamper(self, action: Action) -> None:
        """A mapping seals the content, and a device has no size.

        :raises Refusal: EPERM for a store, EINVAL for ftruncate(2).
        """
        if action != "unmap":
            raise Refusal(errno.EPERM if action == "write" else errno.EINVAL)
        self.give_up()
