"""The knobs as they are written: options of the target, keys of a saved machine, facts of a
session. Everything between a text and a :class:`~refbench_simulator.knobs.Kernel` is here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from refbench.errors import UsageError
from refbench.grammar import Option, Spec, Value, Values, format_size, resolve
from refbench_simulator.knobs import (
    AGENT_VMAS,
    OLDEST,
    UNLIMITED,
    Arch,
    Kernel,
    Release,
    Thp,
    special_vmas,
)

AUTO = "auto"
"""The default of every knob: what the machine of ``like=`` or ``from=`` has, else a stock one's."""
PAGES = (4096, 16384, 65536)
"""Page sizes in bytes. Of x86_64 the first alone; arm64 is built for each."""
_RELEASE = re.compile(r"(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class Knob:
    """A setting: how it is written, and the fact of a session that tells it."""

    option: Option
    fact: str = ""
    """Its name in :attr:`refbench.words.Capabilities.environment`, where other backends have
    the same; empty for what has a field of its own there."""

    @property
    def name(self) -> str:
        """The name of its option."""
        return self.option.name


def _knob(name: str, kind: str, about: str, fact: str = "", **bounds: object) -> Knob:
    return Knob(Option(name, kind, AUTO, about, **bounds), fact)  # type: ignore[arg-type]


KNOBS: tuple[Knob, ...] = (
    _knob("kernel", "text", "release of Linux whose rules hold; stock: 6.18"),
    _knob(
        "arch",
        "choice",
        "stock: x86_64, but arm64 when page is more than 4KiB",
        choices=("x86_64", "arm64"),
    ),
    _knob(
        "page",
        "size",
        "page size: 4KiB, 16KiB, 64KiB; stock: 4KiB",
        minimum=PAGES[0],
        maximum=PAGES[-1],
    ),
    _knob(
        "around",
        "size",
        "fault_around_bytes; stock: 64KiB",
        "fault-around-bytes",
        minimum=0,
        maximum=1 << 40,
    ),
    _knob(
        "thp",
        "choice",
        "transparent huge pages; stock: madvise",
        "thp",
        choices=("never", "madvise", "always"),
    ),
    _knob(
        "max-map-count",
        "int",
        "vm.max_map_count; stock: 65530",
        "vm.max_map_count",
        minimum=0,
        maximum=(1 << 31) - 1,
    ),
    _knob(
        "memory",
        "size",
        "what pages may take before the kernel reclaims; never read off a machine; stock: no limit",
        "memory",
        minimum=1 << 20,
        maximum=UNLIMITED,
    ),
    _knob("swap", "size", "stock: none", "swap", minimum=0, maximum=UNLIMITED),
    _knob("ksm", "bool", "ksmd runs for cells that offer it pages; stock: yes", "ksm"),
    _knob(
        "privileged",
        "bool",
        "CAP_SYS_PTRACE: userfaultfd for kernel faults and fork events; stock: yes",
        "user",
    ),
    _knob(
        "unprivileged-userfaultfd",
        "bool",
        "userfaultfd for kernel faults without it; stock: no",
        "vm.unprivileged_userfaultfd",
    ),
    _knob("pt-reclaim", "bool", "CONFIG_PT_RECLAIM; stock: by kernel and arch", "pt-reclaim"),
    _knob("vsyscall", "bool", "maps shows [vsyscall]; stock: by arch", "vsyscall"),
    _knob(
        "own-vmas",
        "int",
        "lines of /proc/PID/maps before the program; stock: by kernel and arch",
        "own-vmas",
        minimum=1,
        maximum=1 << 16,
    ),
)
BY_NAME: Mapping[str, Knob] = {knob.name: knob for knob in KNOBS}
FOLLOWING = frozenset({"pt-reclaim", "vsyscall", "own-vmas"})
"""What a machine has because of its kernel and architecture: worked out anew for others."""

Given = Mapping[str, Value]
"""The knobs that somebody set, by name: sizes in bytes."""


def given(values: Values) -> dict[str, Value]:
    """The knobs among the target's checked options that are not left to the defaults.

    :raises UsageError: for a value that no kernel of the model has.
    """
    found = {name: value for name, value in values.values.items() if name in BY_NAME}
    return _checked(found, "of the target 'simulator'")


def parse(texts: Mapping[str, str], *, name: str, what: str) -> dict[str, Value]:
    """Knobs from texts, by name. ``name`` and ``what`` say in errors whose they are.

    :raises UsageError: for an unknown knob and for a value that it cannot have.
    """
    options = [knob.option for knob in KNOBS]
    values = resolve(Spec(name, tuple(texts.items())), options, what=what).values
    return _checked(dict(values), f"of the {what} {name!r}")


def override(base: Given, explicit: Given) -> dict[str, Value]:
    """The knobs of a machine, ``base``, under those that were asked for.

    Page sizes that its architecture does not have take the architecture that has them, and
    what follows from kernel and architecture is dropped when one of them is another.
    """
    merged = {**base, **explicit}
    if "arch" not in explicit and merged.get("page", PAGES[0]) != PAGES[0]:
        merged["arch"] = "arm64"
    if any(merged.get(name) != base.get(name) for name in ("kernel", "arch")):
        for name in FOLLOWING - explicit.keys():
            merged.pop(name, None)
    return merged


def kernel_of(knobs: Given) -> Kernel:
    """The kernel that has these knobs; what they leave out is a stock kernel's.

    :raises UsageError: when they contradict one another.
    """
    values = Values(knobs)
    stock = Kernel()
    release = release_of(values.text("kernel")) if "kernel" in knobs else stock.release
    page = values.integer("page") if "page" in knobs else stock.page_size
    arch = _arch(knobs.get("arch"), page)

    def number(name: str, default: int) -> int:
        return values.integer(name) if name in knobs else default

    def switch(name: str, default: bool) -> bool:  # as `number` beside it
        return values.switch(name) if name in knobs else default

    vsyscall = switch("vsyscall", arch == "x86_64")
    special = special_vmas(release, arch, vsyscall=vsyscall)
    kernel = Kernel(
        release=release,
        arch=arch,
        page_size=page,
        fault_around=number("around", stock.fault_around),
        thp=_thp(knobs.get("thp"), stock.thp),
        max_map_count=number("max-map-count", stock.max_map_count),
        memory=number("memory", stock.memory),
        swap=number("swap", stock.swap),
        ksm=switch("ksm", stock.ksm),
        privileged=switch("privileged", stock.privileged),
        own_vmas=number("own-vmas", AGENT_VMAS + special),
        unprivileged_userfaultfd=switch("unprivileged-userfaultfd", stock.unprivileged_userfaultfd),
        vsyscall=vsyscall,
        pt_reclaim=switch("pt-reclaim", False) if "pt-reclaim" in knobs else None,
    )
    _check_around(kernel)
    return kernel


def knobs_of(kernel: Kernel) -> dict[str, Value]:
    """Every knob of a kernel: :func:`kernel_of` makes the same from it. No limit of memory is
    left out, as it is where nobody asked for one."""
    knobs: dict[str, Value] = {
        "kernel": kernel.version,
        "arch": kernel.arch,
        "page": kernel.page_size,
        "around": kernel.around * kernel.page_size,
        "thp": kernel.thp,
        "max-map-count": kernel.max_map_count,
        "memory": kernel.memory,
        "swap": kernel.swap,
        "ksm": kernel.ksm,
        "privileged": kernel.privileged,
        "unprivileged-userfaultfd": kernel.unprivileged_userfaultfd,
        "pt-reclaim": kernel.reclaims_tables,
        "vsyscall": kernel.vsyscall,
        "own-vmas": kernel.own_vmas,
    }
    if kernel.memory == UNLIMITED:
        del knobs["memory"]
    return knobs


def facts(kernel: Kernel) -> Mapping[str, str]:
    """Every knob as a fact of a session's environment, under the names and in the words of a
    real machine's, so that comparisons find what differs. Kernel, architecture and page size
    are not among them: :class:`~refbench.words.Capabilities` has fields for those."""
    knobs = knobs_of(kernel)
    told = {knob.fact: fact_text(knob.name, knobs.get(knob.name, "")) for knob in KNOBS}
    return {name: text for name, text in told.items() if name}


def fact_text(name: str, value: Value) -> str:
    """The value of a knob in the words of a session's facts."""
    if name == "memory" and value == "":
        return "unlimited"
    if isinstance(value, bool):
        return _SWITCHED.get(name, ("no", "yes"))[value]
    return str(value)


_SWITCHED = {
    "ksm": ("0", "on for cells of ksm"),
    "privileged": ("ordinary", "root"),
    "unprivileged-userfaultfd": ("0", "1"),
}
"""How real machines' facts tell a switch that is off, and one that is on."""


def spell(name: str, value: Value) -> str:
    """The value of a knob as the option is written: sizes with their unit."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if BY_NAME[name].option.kind == "size" and isinstance(value, int):
        text = format_size(value)
        return str(value) if "." in text else text
    return str(value)


def release_of(text: str) -> Release:
    """``(6, 18)`` of ``6.18`` and of ``6.18.44-amd64``.

    :raises ValueError: for what is no release.
    """
    match = _RELEASE.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a release of Linux")
    return int(match[1]), int(match[2])


def _checked(values: dict[str, Value], where: str) -> dict[str, Value]:
    """Drop what is left to the defaults; refuse what the grammar alone cannot."""
    knobs = {name: value for name, value in values.items() if value != AUTO}
    if "kernel" in knobs:
        _check_release(str(knobs["kernel"]), where)
    if knobs.get("page", PAGES[0]) not in PAGES:
        raise UsageError(
            f"The option 'page' {where} is {spell('page', knobs['page'])}, and no processor of "
            "the model has such pages.",
            remedy="Give 4KiB, 16KiB or 64KiB.",
        )
    return knobs


def _check_release(text: str, where: str) -> None:
    try:
        release = release_of(text)
    except ValueError:
        raise UsageError(
            f"The option 'kernel' {where} is a release of Linux, not {text!r}.",
            remedy="Write for example 6.18.",
        ) from None
    if release < OLDEST:
        oldest = f"{OLDEST[0]}.{OLDEST[1]}"
        raise UsageError(
            f"The option 'kernel' {where} is {text}, and the model has the rules of Linux "
            f"{oldest} and later.",
            remedy=f"Give kernel={oldest} to have the nearest.",
        )


def _arch(value: Value | None, page: int) -> Arch:
    if value is None:
        return "x86_64" if page == PAGES[0] else "arm64"
    if value == "x86_64" and page != PAGES[0]:
        raise UsageError(
            f"x86_64 has no pages of {format_size(page)}.",
            remedy="Give arch=arm64, or leave arch out.",
        )
    return "arm64" if value == "arm64" else "x86_64"


def _thp(value: Value | None, default: Thp) -> Thp:
    words: dict[Value | None, Thp] = {w: w for w in ("never", "madvise", "always")}
    return words.get(value, default)


def _check_around(kernel: Kernel) -> None:
    """``fault_around_bytes_set()`` of mm/memory.c takes no more than a page table's pages."""
    most = kernel.entries * kernel.page_size
    if kernel.fault_around > most:
        raise UsageError(
            f"The option 'around' is {format_size(kernel.fault_around)}; with pages of "
            f"{format_size(kernel.page_size)} the kernel takes at most {format_size(most)}.",
            remedy=f"Give at most around={format_size(most)}.",
        )
