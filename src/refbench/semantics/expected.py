"""What is expected of each mechanism, committed before it is measured.

A mechanism that does not name a property is expected to meet it. A key is the name of a property,
optionally with conditions after ``@``, separated by commas: ``fork-child@events=fork`` (an option
of the mechanism that is not at its default), ``clean-write@uffd=user-mode-only`` (a fact that the
agent reports), ``remap-move@kernel<6.17`` (the kernel of the target). The key with the most
conditions that hold wins. :func:`refbench.semantics.check.expectation` reads them.
"""

from __future__ import annotations

from refbench.words import Verdict

Expectations = dict[str, tuple[Verdict, str]]

_MET = Verdict.MET
_NOT = Verdict.NOT_MET
_REFUSED = Verdict.REFUSED
_UNAVAILABLE = Verdict.UNAVAILABLE


_REFERRED = (
    "accepts-anonymous",
    "accepts-file",
    "accepts-shared",
    "accepts-hugetlb",
    "accepts-mapping",
    "rejects-device",
    "rejects-unmapped",
    "rejects-inaccessible",
    "accepts-compat",
    "accepts-compat-signed",
)
"""Properties of mechanisms that are told which page to show."""


def _no_reference(reason: str) -> Expectations:
    names = (
        "reference-changed",
        "reference-truncated",
        "reference-unmapped",
        "reference-charged",
        *_REFERRED,
    )
    return dict.fromkeys(names, (_UNAVAILABLE, reason))


_IN_A_FILE: Expectations = dict.fromkeys(
    _REFERRED, (_UNAVAILABLE, "The pattern is in a file of the mechanism's own.")
)


_ANON: Expectations = {
    "mlock-shares": (_NOT, "mlock faults a writable private mapping in for writing."),
    "neighbour-vma": (_NOT, "It is anonymous memory, so the kernel merges the two VMAs."),
    **_no_reference("There is no reference page."),
}

_MEMSET: Expectations = {
    "dontneed": (_NOT, "The pattern is in the pages alone; fresh ones are zero."),
    "free-reclaimed": (_NOT, "A reclaimed page comes back as zero."),
    "remap-grow": (_NOT, "What mremap adds is fresh anonymous memory: zero."),
    "neighbour-vma": (_NOT, "It is anonymous memory, so the kernel merges the two VMAs."),
    "clean-charged": (_NOT, "Every page is filled, and so charged, when it is mapped."),
    "userfault": (_NOT, "Every page is filled when mapped, so that none is missing."),
    **_no_reference("The pattern is copied when mapped; no page stays behind."),
}

_MEMFD: Expectations = {
    "clean-core": (
        _NOT,
        "A file-backed private VMA without a written page is left out of a core by default.",
    ),
    "free": (_REFUSED, "MADV_FREE is for anonymous VMAs: EINVAL."),
    "free-reclaimed": (_REFUSED, "MADV_FREE is for anonymous VMAs: EINVAL."),
    "collapse": (_REFUSED, "No VMA is as long as a huge page: EINVAL."),
    "mlock-shares": (_NOT, "mlock faults a writable private mapping in for writing: all copied."),
    "remap-move@kernel<6.17": (_REFUSED, "mremap of more than one VMA: EFAULT."),
    "remap-grow": (_REFUSED, "mremap that resizes more than one VMA: EFAULT."),
    "userfault": (_NOT, "What the file has is not missing, whether it was touched or not."),
    **_IN_A_FILE,
}

_MEMFD_FULL: Expectations = {
    "free": (_REFUSED, "MADV_FREE is for anonymous VMAs: EINVAL."),
    "free-reclaimed": (_REFUSED, "MADV_FREE is for anonymous VMAs: EINVAL."),
    "collapse": (_REFUSED, "The huge page of a file is not mapped over a private copy: EINVAL."),
    "mlock-shares": (_NOT, "mlock faults a writable private mapping in for writing: all copied."),
    "remap-grow": (_NOT, "The new part lies behind the end of the file: SIGBUS."),
    "clean-charged": (_NOT, "The file is as large as the mapping, and charged as a whole."),
    "userfault": (_NOT, "What the file has is not missing, whether it was touched or not."),
    **_IN_A_FILE,
}

_UFFD_COMMON: Expectations = {
    "clean-procmem": (
        _REFUSED,
        "/proc/PID/mem faults without permission to retry, which userfaultfd needs: EIO.",
    ),
    "clean-core": (_NOT, "A core dump never asks a userfaultfd; missing pages are holes."),
    "collapse": (
        _REFUSED,
        "Missing pages of a userfaultfd are left alone: EBUSY, not EINVAL as foreseen.",
    ),
    "remap-move": (_NOT, "Without UFFD_EVENT_REMAP the registration is dropped."),
    "remap-grow": (_NOT, "Without UFFD_EVENT_REMAP the registration is dropped."),
    "stored-by-procmem": (
        _REFUSED,
        "/proc/PID/mem faults without permission to retry, which userfaultfd needs: EIO.",
    ),
    "fork-child": (_NOT, "Without UFFD_EVENT_FORK the child's registration is dropped: zero."),
    "fork-child@atfork=yes": (_MET, "The child registers its ranges anew."),
    "fork-child-store": (_NOT, "Without UFFD_EVENT_FORK the child's registration is dropped."),
    "fork-child-store@atfork=yes": (_MET, "The child registers its ranges anew."),
    "fork-grandchild": (_NOT, "Without UFFD_EVENT_FORK the registration is dropped: zero."),
    "fork-grandchild@atfork=yes": (_MET, "Each child registers its ranges anew."),
    "clean-charged": (_NOT, "A load is answered with a copy, and that is charged."),
    "userfault": (_REFUSED, "A range has one userfaultfd at a time, and this one has one: EBUSY."),
    **_no_reference("Pages are copied one by one; none is shared."),
}

_KERNEL_ACCESS = (
    "clean-write",
    "clean-direct",
    "clean-vmreadv",
    "stored-by-read",
    "stored-by-vmwritev",
    "mlock",
)

_UFFD: Expectations = {
    **_UFFD_COMMON,
    "fork-child@events=fork": (_MET, "The reader of UFFD_EVENT_FORK serves the child too."),
    "fork-child-store@events=fork": (_MET, "The reader of UFFD_EVENT_FORK serves the child too."),
    "fork-grandchild@events=fork": (_MET, "Events of the child name the grandchild."),
    **{
        f"{name}@uffd=user-mode-only": (
            _REFUSED,
            "A userfaultfd of an ordinary user does not serve faults of the kernel: EFAULT.",
        )
        for name in _KERNEL_ACCESS
    },
}

_UFFD_SIGBUS: Expectations = {
    **_UFFD_COMMON,
    **dict.fromkeys(
        _KERNEL_ACCESS,
        (_REFUSED, "A fault of the kernel has no handler to raise SIGBUS in: EFAULT."),
    ),
}

_SEGV: Expectations = {
    **dict.fromkeys(
        _KERNEL_ACCESS,
        (_REFUSED, "The kernel respects PROT_NONE and raises no signal: EFAULT."),
    ),
    "clean-procmem": (_NOT, "/proc/PID/mem overrides PROT_NONE and finds zero pages."),
    "clean-core": (_NOT, "Untouched anonymous memory is left out of a core."),
    "stored-by-procmem": (_NOT, "The later first touch fills the page over what was stored."),
    "threads-read": (_NOT, "The page is accessible while it is being filled."),
    "threads-store": (_NOT, "The fill overwrites what other threads stored in the meantime."),
    "dontneed": (_NOT, "The page stays accessible and is zero; no signal comes."),
    "free-reclaimed": (_NOT, "A reclaimed page comes back as zero; no signal comes."),
    "collapse": (_REFUSED, "Each touched page splits the VMA; none is as long as a huge page."),
    "remap-move": (_NOT, "The handler does not know the new address."),
    "remap-move@kernel<6.17": (_REFUSED, "mremap of more than one VMA: EFAULT."),
    "remap-grow": (_NOT, "The handler does not know the new address."),
    "protect": (_NOT, "mprotect opens pages that were never filled."),
    "clean-charged": (_NOT, "A load fills its page, and that is charged."),
    "userfault": (_NOT, "The handler fills a page at its first touch over what was put there."),
    **_no_reference("The pattern is copied at first touch; no page is shared."),
}

_KSM: Expectations = {
    "dontneed": (_NOT, "The pattern is in the pages alone; fresh ones are zero."),
    "remap-grow": (_NOT, "What mremap adds is fresh anonymous memory: zero."),
    "userfault": (_NOT, "Every page is filled when mapped, so that none is missing."),
    "mlock-shares": (_NOT, "mlock faults a writable mapping in for writing: merged pages split."),
    "free-reclaimed": (
        _UNAVAILABLE,
        "Pages that are mapped more than once are not freed, so that none is reclaimed.",
    ),
    **_no_reference("Which page is kept is the kernel's choice and out of reach."),
}

_REFPAGE_COMMON: Expectations = {
    "collapse": (_REFUSED, "No huge page is made where clean pages show a reference page: EINVAL."),
    "mlock-shares": (_NOT, "mlock faults a writable private mapping in for writing: all copied."),
}

_COPIED: Expectations = {
    "rejects-device": (_NOT, "The content is copied: whatever can be read will do."),
    "accepts-compat-signed": (_UNAVAILABLE, "No offset names the page."),
}

_REFPAGE: Expectations = {**_REFPAGE_COMMON, **_COPIED}

_REFPAGE_MMAP: Expectations = {
    **_REFPAGE_COMMON,
    "reference-changed": (
        _NOT,
        "mmap copies the page: what is mapped afterwards shows what was stored there.",
    ),
    "reference-truncated": (_UNAVAILABLE, "The reference page is anonymous: it has no file."),
    "rejects-device": (_NOT, "The content is copied: whatever can be read will do."),
}

_SPECIAL_ENTRIES: Expectations = {
    "clean-direct": (_REFUSED, "GUP finds an entry that has no page to pin: EEXIST."),
    "clean-vmreadv": (_REFUSED, "GUP finds an entry that has no page to pin: EFAULT."),
    "clean-procmem": (_REFUSED, "GUP finds an entry that has no page to pin: EIO."),
    "clean-core": (_NOT, "A core dump takes a special entry for a hole, which reads as zero."),
}
"""What ``follow_page_pte()`` makes of a driver's entry, which shows a page that is neither the
zero page nor an ordinary one."""

_REFPAGE_DEV: Expectations = {
    **_SPECIAL_ENTRIES,
    **_COPIED,
    **{
        f"{name}@handler=naive": (_MET, "The one page is an ordinary page of a file to GUP.")
        for name in _SPECIAL_ENTRIES
    },
    "free": (_REFUSED, "MADV_FREE is for anonymous VMAs: EINVAL."),
    "free-reclaimed": (_REFUSED, "MADV_FREE is for anonymous VMAs: EINVAL."),
    "collapse": (_REFUSED, "The VMA is a device's, without huge pages: EINVAL."),
    "mlock-shares": (_NOT, "mlock faults a writable private mapping in for writing: all copied."),
    "userfault": (_REFUSED, "A device's mapping cannot be registered: EINVAL."),
    "ksm-merge": (_UNAVAILABLE, "MADV_MERGEABLE passes over VM_MIXEDMAP: nothing is merged."),
    "ksm-merge@handler=naive": (_MET, "Stored pages are anonymous, and KSM merges those."),
}

EXPECTED: dict[str, Expectations] = {
    "anon": _ANON,
    "memset": _MEMSET,
    "memfd": _MEMFD,
    "memfd-full": _MEMFD_FULL,
    "uffd": _UFFD,
    "uffd-sigbus": _UFFD_SIGBUS,
    "segv": _SEGV,
    "ksm": _KSM,
    "refpage": _REFPAGE,
    "refpage-mmap": _REFPAGE_MMAP,
    "refpage-dev": _REFPAGE_DEV,
}
"""By mechanism and property: the verdict, and the reason in one sentence."""
