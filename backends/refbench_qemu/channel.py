"""The channel to guests of one recipe: boots them, replaces them, brings files, runs programs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from refbench.backend import Answer
from refbench.cache import file_digest
from refbench.errors import BackendError
from refbench.vm.guard import CGROUP_OOM, Finding
from refbench_qemu.boot import FILES, Guest, Recipe
from refbench_qemu.port import RefusedError, SilentGuestError


class QemuChannel:
    """Runs programs in a guest, one at a time. ``folder`` is for the files of all its guests.

    Where the recipe has snapshots, every program starts in a guest to which nothing has
    happened but that it has the files ``ahead``. ``mark`` is what QEMU carries in its
    environment. A guest whose kernel reported a fault, that ended or fell silent runs nothing
    more: the next call gets another.

    :raises BackendError: when the first guest does not come up.
    """

    def __init__(
        self, recipe: Recipe, folder: Path, *, mark: str, ahead: Sequence[Path] = ()
    ) -> None:
        self.recipe = recipe
        self.boots = 0
        """How many guests there have been."""
        self.faults: tuple[Finding, ...] = ()
        """What the kernel reported while the last program ran."""
        self.idle_faults: tuple[Finding, ...] = ()
        """What it reported before that, and after the program before."""
        self.settings: Mapping[str, str] = {}
        """Values of files under /proc and /sys that the next program wants."""
        self.disk: Path | None = None
        """A disk that the next program wants under its scratch directory."""
        self._folder = folder
        self._mark = mark
        self._kept: dict[str, Path] = {}
        self._guest: Guest | None = None
        self._closed = False
        self._ahead = {self.put(file): file for file in ahead}
        self.guest()

    def guest(self) -> Guest:
        """The guest that the next program runs in, booted now if need be.

        :raises BackendError: when it does not come up.
        """
        if self._closed:
            raise BackendError("The channel is closed.", remedy="Open the target again.")
        if self._guest is not None:
            self.idle_faults += self._guest.faults()
            if self.idle_faults or not self._guest.machine.running:
                self._drop()
        if self._guest is None:
            self.boots += 1
            folder = self._folder / f"boot-{self.boots}"
            self._guest = Guest(self.recipe, folder, self._mark, self._ahead)
        self._guest.wake()
        return self._guest

    def put(self, file: Path) -> str:
        """Keep a copy of ``file``; guests get it when a program names it.

        Its path there follows from its content: of one length for all, whatever came before.
        """
        name = file_digest(file).hex()[:16]
        copy = self._folder / f"put-{name}"
        shutil.copyfile(file, copy)
        path = f"{FILES}/{name}"
        self._kept[path] = copy
        return path

    def read(self, path: str) -> str:
        """The text of a small file there, without white space around it; empty when it cannot
        be read.

        :raises ConnectionError: when the guest does not answer.
        """
        guest = self.guest()
        try:
            return guest.port.read(path)
        except SilentGuestError as error:
            self.idle_faults += (guest.silence(error),)
            self._drop()
            raise ConnectionError(str(error)) from error

    def run(self, argv: Sequence[str], deadline: float) -> Answer:
        """Run a program in the guest; afterwards :attr:`faults` has what its kernel reported.

        :raises ConnectionError: when QEMU was ended from outside.
        """
        self.faults = ()
        guest = self.guest()
        before, self.idle_faults = self.idle_faults, ()
        try:
            answer = self._run(guest, argv, deadline)
            if not self._is_ill:
                guest.rest()
        except BaseException:
            # Whatever it was (QEMU's end, Ctrl-C): what runs there is not to meet what comes next.
            self._drop()
            raise
        if self._is_ill:
            self._drop()
        if before:
            answer.facts["kernel-fault-before"] = "; ".join(item.headline for item in before)
        return answer

    def _run(self, guest: Guest, argv: Sequence[str], deadline: float) -> Answer:
        try:
            if self.recipe.spec.snapshots:
                guest.restore()
            guest.set(self.settings)
            if self.disk is not None:
                guest.attach(self.disk)
            # A word may name several, as NAME=PLACE or PLACE:PLACE.
            said = "\0".join(argv)
            for path, file in self._kept.items():
                if path in said:
                    guest.bring(path, file)
            answer = guest.port.run(argv, deadline)
        except RefusedError as error:
            reason = f"The guest refused what the program needs: {error}."
            answer = Answer((), (reason,), returncode=126)
        except SilentGuestError as error:
            self.faults = (guest.silence(error),)
            answer = Answer((), deadline_passed=True)
        except ConnectionError as error:
            # A panic ends QEMU; its last words are on the console when it has ended.
            guest.machine.quit()
            self.faults = guest.faults()
            if not self.faults:
                raise ConnectionError(guest.machine.why()) from error
            return Answer(())
        self.faults = guest.faults() + self.faults
        return answer

    @property
    def _is_ill(self) -> bool:
        return any(finding.rule != CGROUP_OOM for finding in self.faults)

    def close(self) -> None:
        """End the guest; may be called twice."""
        self._closed = True
        self._drop()

    def _drop(self) -> None:
        guest, self._guest = self._guest, None
        if guest is not None:
            guest.close()
