"""Memory from a mechanism, mapped into this process, as a Python buffer."""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Callable
from collections.abc import Mapping as Dict
from dataclasses import dataclass
from typing import Any

from refbench.closing import Closing
from refbench.errors import (
    BackendError,
    LimitHit,
    RefbenchError,
    Unsupported,
    UsageError,
    WrongContent,
)
from refbench.grammar import Spec, suggest
from refbench.mechanisms import MECHANISMS
from refbench.native._cffi import ffi, lib
from refbench.native._exporter import Memory
from refbench.words import AVAILABLE, Availability, Pattern

PAGE_SIZE = mmap.PAGESIZE
_FACTS_SIZE = 1024
_open: weakref.WeakSet[Mapping] = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class Counters:
    """What the mechanism did so far, children of a fork included."""

    syscalls: int
    sigbus: int
    sigsegv: int
    uffd_messages: int


class Mapping(Closing, Memory):  # type: ignore[misc]  # a compiled class without types
    """``size`` bytes that read as ``pattern`` until they are written, from ``mechanism``.

    A context manager and a writable buffer: ``memoryview(mapping)``,
    ``numpy.frombuffer(mapping, numpy.uint8)``. ``size`` is in bytes and must be a multiple of
    the page size: nothing is rounded, because what is mapped is what is measured. ``populate``
    asks for present pages, as MAP_POPULATE does. Forked children may use their copy.

    :raises UsageError: for a size, pattern or mechanism that makes no sense, for a mechanism
        that is not built in, and for one that owns signal handlers of the process.
    :raises Unsupported: when the mechanism does not work here.
    :raises LimitHit: when the kernel has not enough memory, mappings or descriptors.
    """

    def __init__(
        self,
        size: int,
        pattern: Pattern | str = "byte:0xAA",
        mechanism: Spec | str = "memset",
        *,
        populate: bool = False,
    ) -> None:
        self._address = 0
        self.size = _checked_size(size)
        self.pattern = Pattern.parse(pattern) if isinstance(pattern, str) else pattern
        self.mechanism, self._mechanism = _find(mechanism)
        if self._mechanism.owns_signals:
            raise UsageError(_OWNS_SIGNALS.format(self.mechanism), remedy=_OWNS_SIGNALS_REMEDY)
        self._context, self._kept = _context(self.pattern, self.mechanism)
        self._call(lib.rb_setup)
        error = ffi.new("struct rb_error *")
        flags = lib.RB_MAP_POPULATE if populate else 0
        found = lib.rb_map(self._mechanism, self._context, size, flags, error)
        if not found:
            lib.rb_teardown(self._mechanism, self._context)
            raise _exception(error)
        self._address = int(ffi.cast("uintptr_t", found))
        self._attach(self._address, size)
        _open.add(self)

    @property
    def address(self) -> int:
        """Where the memory starts; 0 when it is closed."""
        return self._address

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return not self._address

    @property
    def applies_pattern(self) -> bool:
        """False for a baseline, whose clean pages read as zero."""
        return bool(self._mechanism.applies_pattern)

    @property
    def counters(self) -> Counters:
        """What the mechanism did for this mapping, its setup included."""
        out = ffi.new("uint64_t[4]")
        lib.rb_read_counters(self._context, out)
        return Counters(*(int(value) for value in out))

    @property
    def held(self) -> int:
        """Bytes of files and other memory that RSS does not show; 0 when it is closed."""
        return 0 if self.closed else int(lib.rb_held(self._mechanism, self._context))

    @property
    def facts(self) -> Dict[str, str]:
        """What is worth recording of this set-up, e.g. ``{"uffd": "user-mode-only"}``."""
        buffer = ffi.new("char[]", _FACTS_SIZE)
        if not self.closed:
            lib.rb_facts(self._mechanism, self._context, buffer, _FACTS_SIZE)
        pairs = (item.partition("=") for item in _text(buffer).split(";") if item)
        return {key: value for key, _, value in pairs}

    def settle(self) -> None:
        """Wait until background work is done: for ``ksm``, until all equal pages are merged."""
        if self.closed:
            raise ValueError("The mapping is closed.")
        self._call(lib.rb_settle)

    def close(self) -> None:
        """Unmap the memory; nothing when that was done.

        :raises BufferError: while views of it are in use.
        """
        if self.closed:
            return
        self._detach()
        _open.discard(self)
        address, self._address = ffi.cast("void *", self._address), 0
        failed = lib.rb_unmap(self._mechanism, self._context, address, self.size)
        lib.rb_teardown(self._mechanism, self._context)
        if failed:
            raise OSError(ffi.errno, f"munmap: {os.strerror(ffi.errno)}")

    def __del__(self) -> None:
        if getattr(self, "_address", 0):
            self.close()

    def __repr__(self) -> str:
        where = "closed" if self.closed else f"at {self.address:#x}"
        return f"<Mapping of {self.size} bytes, {self.mechanism}, {self.pattern.text}, {where}>"

    def _call(self, function: Callable[..., int]) -> None:
        error = ffi.new("struct rb_error *")
        if function(self._mechanism, self._context, error):
            raise _exception(error)


def probe(mechanism: Spec | str) -> Availability:
    """Whether ``mechanism`` works in this process: it is set up and closed, nothing is mapped.

    :raises UsageError: when there is no such mechanism or option.
    """
    spec, built = _find(mechanism)
    if built.owns_signals:
        return Availability(False, _OWNS_SIGNALS.format(spec), _OWNS_SIGNALS_REMEDY)
    context, _kept = _context(Pattern(), spec)
    error = ffi.new("struct rb_error *")
    if not lib.rb_setup(built, context, error):
        lib.rb_teardown(built, context)
        return AVAILABLE
    failure = _exception(error)
    if isinstance(failure, UsageError):
        raise failure
    return Availability(False, failure.message, failure.remedy)


_OWNS_SIGNALS = "The mechanism {} owns signal handlers of its process, and this one is Python's."
_OWNS_SIGNALS_REMEDY = "Measure it with `refbench run`, where it has a process of its own."


def _find(mechanism: Spec | str) -> tuple[Spec, Any]:
    """The canonical spec and the compiled mechanism."""
    if isinstance(mechanism, str):
        mechanism = Spec.parse(mechanism, what="mechanism")
    known = {declared.name: declared for declared in MECHANISMS if declared.sources}
    if mechanism.name not in known:
        raise UsageError(
            f"There is no mechanism {mechanism.name!r} in refbench.native.",
            remedy=suggest(mechanism.name, known),
        )
    name = mechanism.name.encode()
    found = lib.rb_mechanism_find(name, len(name))
    if not found:
        raise BackendError(
            f"The extension module of refbench.native was built without {mechanism.name!r}.",
            remedy="Install refbench again.",
        )
    return known[mechanism.name].canonical(mechanism), found


def _checked_size(size: int) -> int:
    if size <= 0:
        raise UsageError(
            f"A mapping of {size} bytes cannot be made.", remedy=f"Give at least {PAGE_SIZE} bytes."
        )
    if size % PAGE_SIZE:
        raise UsageError(
            f"A mapping of {size} bytes is not a whole number of pages of {PAGE_SIZE} bytes.",
            remedy=f"Give {-(-size // PAGE_SIZE) * PAGE_SIZE} bytes.",
        )
    return size


def _page(pattern: Pattern) -> bytes:
    """The content of one page."""
    if pattern.tag is not None:
        raise UsageError(
            f"The pattern {pattern.text!r} has a memory tag, which refbench.native cannot set.",
            remedy="Leave the tag out.",
        )
    if pattern.file is None:
        return bytes([pattern.byte or 0]) * PAGE_SIZE
    try:
        content = pattern.file.read_bytes()
    except OSError as error:
        raise UsageError(
            f"The pattern file {pattern.file} cannot be read: {error.strerror}.",
            remedy="Give the path of a file that holds the page's content.",
        ) from None
    if not 0 < len(content) <= PAGE_SIZE:
        raise UsageError(
            f"The pattern file {pattern.file} has {len(content)} bytes.",
            remedy=f"Give a file of 1 to {PAGE_SIZE} bytes; its content is repeated.",
        )
    return (content * (PAGE_SIZE // len(content) + 1))[:PAGE_SIZE]


def _context(pattern: Pattern, spec: Spec) -> tuple[Any, tuple[Any, ...]]:
    """A new context, and what must live as long as it."""
    page = ffi.new("unsigned char[]", _page(pattern))
    # Shared, so that forked children count in the same place.
    counters = ffi.from_buffer(mmap.mmap(-1, PAGE_SIZE))
    context = ffi.new("struct rb_context *")
    context.page_size = PAGE_SIZE
    context.pattern.page = page
    context.pattern.is_byte = pattern.file is None
    context.pattern.byte = pattern.byte or 0
    context.counters = ffi.cast("struct rb_counters *", counters)
    kept: list[Any] = [page, counters]
    for index, (key, value) in enumerate(spec.options):
        texts = ffi.new("char[]", key.encode()), ffi.new("char[]", value.encode())
        kept += texts
        context.options[index].key, context.options[index].value = texts
    context.option_count = len(spec.options)
    return context, tuple(kept)


def _text(buffer: Any) -> str:
    return bytes(ffi.string(buffer)).decode(errors="replace")


def _exception(error: Any) -> RefbenchError:
    message, remedy = _text(error.message), _text(error.remedy)
    if error.kind == lib.RB_LIMIT_HIT:
        return LimitHit(message, remedy=remedy, wanted=int(error.wanted), limit=int(error.limit))
    kinds: dict[int, type[RefbenchError]] = {
        lib.RB_UNSUPPORTED: Unsupported,
        lib.RB_WRONG_CONTENT: WrongContent,
        lib.RB_USAGE: UsageError,
    }
    return kinds.get(error.kind, BackendError)(message, remedy=remedy)


def _before_fork() -> None:
    for mapping in _open:
        mapping._call(lib.rb_before_fork)  # noqa: SLF001


def _after_fork_in_child() -> None:
    for mapping in _open:
        mapping._call(lib.rb_after_fork_child)  # noqa: SLF001


os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
