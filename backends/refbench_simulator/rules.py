"""The rules of the model: what the kernel does, in plain words, and where in the kernel it does it.

Every entry of the ledger (:mod:`refbench_simulator.model.events`) names its rule; ``refbench
explain`` tells it, docs/simulator.md lists all of them. Names of functions and files are those of
Linux 6.12; later releases have moved some of them to other files.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``id`` names it in JSON and in the manual; ``sentence`` says what happens,
    ``function`` and ``file`` where: the kernel's, or refbench's own for what user space does."""

    id: str
    sentence: str
    function: str
    file: str
    untimed: bool = False
    """Whether it is worth telling although it costs nothing."""

    @property
    def source(self) -> str:
        """``do_anonymous_page(), mm/memory.c``."""
        return f"{self.function}, {self.file}"


_FOUND: list[Rule] = []


def _rule(id_: str, sentence: str, function: str, file: str, *, untimed: bool = False) -> Rule:
    rule = Rule(id_, sentence, function, file, untimed)
    _FOUND.append(rule)
    return rule


# -- user space ----------------------------------------------------------------------------

TOUCH = _rule(
    "touch",
    "The program accesses places of the range. Where the page's entry permits it, the kernel has "
    "no part in it.",
    "touch_run()",
    "native/agent/touch.c",
)
FILL = _rule(
    "fill",
    "User space stores the pattern to every byte of the page.",
    "rb_fill()",
    "native/library.c",
)
THREAD = _rule(
    "thread",
    "The mechanism starts the thread that will serve its faults.",
    "kernel_clone()",
    "kernel/fork.c",
)

# -- entering the kernel -------------------------------------------------------------------

SYSCALL = _rule(
    "syscall",
    "A system call, into the kernel and back.",
    "entry_SYSCALL_64()",
    "arch/x86/entry/entry_64.S",
)
TRAP = _rule(
    "trap",
    "The processor cannot finish the access and traps: into the kernel, later back to the same "
    "instruction.",
    "exc_page_fault()",
    "arch/x86/mm/fault.c",
)
SIGSEGV = _rule(
    "sigsegv",
    "The VMA permits no such access: the kernel sends SIGSEGV, and the mechanism's handler runs. "
    "The kernel counts no fault.",
    "bad_area_access_error()",
    "arch/x86/mm/fault.c",
)
UFFD_SIGBUS = _rule(
    "uffd-sigbus",
    "The range belongs to a userfaultfd with UFFD_FEATURE_SIGBUS: the faulting thread gets "
    "SIGBUS, and the mechanism's handler runs. The kernel counts no fault.",
    "handle_userfault()",
    "fs/userfaultfd.c",
)
UFFD_MESSAGE = _rule(
    "uffd-message",
    "The range belongs to a userfaultfd: the faulting thread sleeps, a message wakes the handler "
    "thread, which resolves the fault and wakes it again.",
    "handle_userfault()",
    "fs/userfaultfd.c",
)
UFFD_FORK = _rule(
    "uffd-fork",
    "The userfaultfd follows forks: fork(2) waits until the handler thread has read the event.",
    "dup_userfaultfd_complete()",
    "fs/userfaultfd.c",
)

# -- faults --------------------------------------------------------------------------------

LOAD_ZERO = _rule(
    "load-zero",
    "A load from a page of anonymous memory that has no entry: a special entry shows the zero "
    "page. No page is allocated, and no count grows.",
    "do_anonymous_page()",
    "mm/memory.c",
)
LOAD_REFERENCE = _rule(
    "load-reference",
    "A load from a page that has no entry: a special entry shows the reference page, as it would "
    "the zero page. No page is allocated, and no count grows.",
    "do_anonymous_page() of the reference-page patches, or a device's vmf_insert_mixed()",
    "mm/memory.c",
)
LOAD_FILE = _rule(
    "load-file",
    "A load from a page of a file: the entry shows the page that the page cache has, and so do, "
    "without a fault of their own, the empty entries around it (fault-around).",
    "do_read_fault(), do_fault_around()",
    "mm/memory.c",
)
LOAD_DEVICE = _rule(
    "load-device",
    "A load from a device's mapping: its driver is asked for this one page, and the entry shows "
    "it.",
    "do_read_fault(), __do_fault()",
    "mm/memory.c",
)
FIRST_STORE = _rule(
    "first-store",
    "The first store to a page of anonymous memory: a page is allocated, cleared and mapped.",
    "do_anonymous_page(), wp_page_copy()",
    "mm/memory.c",
)
UFFD_SPARE = _rule(
    "uffd-spare",
    "The kernel allocates and clears a page for the store before it sees that the range belongs "
    "to a userfaultfd; the page goes back.",
    "do_anonymous_page()",
    "mm/memory.c",
)
STORE_COPIES = _rule(
    "store-copies",
    "The first store to a page that shows the pattern: a page is allocated, and the shown one is "
    "copied into it. Twice, if a driver shows it and fork(2) copied the entry unaccessed.",
    "do_cow_fault(), wp_page_copy()",
    "mm/memory.c",
)
STORE_REUSES = _rule(
    "store-reuses",
    "A store to a page that is write-protected and that nobody else has any more: its entry is "
    "made writable.",
    "wp_can_reuse_anon_folio()",
    "mm/memory.c",
)
STORE_UNSHARES = _rule(
    "store-unshares",
    "A store to a page that another process shows too: it is copied (copy-on-write).",
    "wp_page_copy()",
    "mm/memory.c",
)
OWN_STACK = _rule(
    "own-stack",
    "The parent's next store to its own stack copies the page of it that it shares with the "
    "child since fork(2).",
    "wp_page_copy()",
    "mm/memory.c",
)
FLUSH = _rule(
    "flush",
    "An entry that showed another page is replaced, and the TLB is flushed for it.",
    "ptep_clear_flush()",
    "mm/pgtable-generic.c",
)
TABLE = _rule(
    "table",
    "The entry needs page tables that are not there yet: they are allocated and cleared.",
    "__pte_alloc(), __pmd_alloc(), __pud_alloc()",
    "mm/memory.c",
)
ANON_VMA = _rule(
    "anon-vma",
    "The VMA gets an anon_vma with its first page of its own: from here on fork(2) copies its "
    "entries.",
    "__anon_vma_prepare()",
    "mm/rmap.c",
)
FIRST_SHOWN = _rule(
    "first-shown",
    "Pages of a file get their first entry anywhere, and are counted as mapped.",
    "__folio_add_rmap()",
    "mm/rmap.c",
)
LAST_SHOWN = _rule(
    "last-shown",
    "Pages of a file lose their last entry, and are no longer counted as mapped.",
    "__folio_remove_rmap()",
    "mm/rmap.c",
)
SWAP_IN = _rule(
    "swap-in",
    "The page is in swap: it is read back into a page of memory. A major fault.",
    "do_swap_page()",
    "mm/memory.c",
)
HUGE_STORE = _rule(
    "huge-store",
    "The first store to an aligned range that may have a huge page: one is allocated, cleared and "
    "shown by a single entry. A page table lies in deposit for splitting it.",
    "do_huge_pmd_anonymous_page(), do_huge_zero_wp_pmd()",
    "mm/huge_memory.c",
)
HUGE_LOAD = _rule(
    "huge-load",
    "A load from an aligned range that may have a huge page: a single entry shows the huge zero "
    "page.",
    "do_huge_pmd_anonymous_page()",
    "mm/huge_memory.c",
)
HUGE_REUSE = _rule(
    "huge-reuse",
    "A store to a write-protected huge page that nobody else has any more: its entry is made "
    "writable.",
    "do_huge_pmd_wp_page()",
    "mm/huge_memory.c",
)
HUGE_SPLIT = _rule(
    "huge-split",
    "The entry of a huge page is split: the deposited page table takes its place. The huge page "
    "stays one.",
    "__split_huge_pmd_locked()",
    "mm/huge_memory.c",
)
HUGE_BREAK_UP = _rule(
    "huge-break-up",
    "A huge page is broken up into single pages; those that hold nothing but zeroes are freed, "
    "and the zero page is shown in their place.",
    "split_folio(), try_to_map_unused_to_zeropage()",
    "mm/huge_memory.c, mm/migrate.c",
)
COLLAPSE = _rule(
    "collapse",
    "MADV_COLLAPSE copies an aligned range into a new huge page, and clears what was missing.",
    "collapse_huge_page()",
    "mm/khugepaged.c",
)
SWAP_OUT = _rule(
    "swap-out",
    "The pages are written to swap and freed; entries of anonymous ones say where they are.",
    "shrink_folio_list(), try_to_unmap_one()",
    "mm/vmscan.c, mm/rmap.c",
)
DISCARD = _rule(
    "discard",
    "Pages that MADV_FREE gave up, and that nobody stored to since, are freed.",
    "shrink_folio_list(), try_to_unmap_one()",
    "mm/vmscan.c, mm/rmap.c",
)
UNMAP_FILE = _rule(
    "unmap-file",
    "Pages of a file that nothing else shows lose their entries, and stay: there is no swap.",
    "shrink_folio_list(), try_to_unmap_one()",
    "mm/vmscan.c, mm/rmap.c",
)
UFFD_COPY = _rule(
    "uffd-copy",
    "UFFDIO_COPY allocates a page, copies the pattern from user space into it and maps it.",
    "mfill_atomic_pte_copy()",
    "mm/userfaultfd.c",
)

KSM_MERGE = _rule(
    "ksm-merge",
    "ksmd finds pages with equal bytes in VMAs that offer them: their entries show one page "
    "instead, write-protected, of which there is one for every 256 of them.",
    "try_to_merge_with_ksm_page(), stable_tree_append()",
    "mm/ksm.c",
)

# -- VMAs ----------------------------------------------------------------------------------

MMAP = _rule(
    "mmap",
    "mmap(2) makes a VMA. Nothing is allocated for its pages.",
    "mmap_region()",
    "mm/mmap.c",
)
SPLIT = _rule(
    "split",
    "A VMA is cut in two, because one part of it becomes different.",
    "__split_vma()",
    "mm/vma.c",
)
MERGE = _rule(
    "merge",
    "Two neighbouring VMAs that differ in nothing become one.",
    "vma_merge_existing_range(), vma_merge_new_range()",
    "mm/vma.c",
)
MODIFY = _rule(
    "modify",
    "A system call changes what the VMA permits or what it is for.",
    "vma_modify()",
    "mm/vma.c",
)
MUNMAP = _rule(
    "munmap",
    "VMAs are removed, with their anon_vmas where they have some.",
    "remove_vma(), unlink_anon_vmas()",
    "mm/vma.c, mm/rmap.c",
)
ZAP = _rule(
    "zap",
    "The entries go; anonymous pages that nobody else shows are freed.",
    "zap_pte_range()",
    "mm/memory.c",
)
PROTECT = _rule(
    "protect",
    "mprotect(2) changes the entries that are there.",
    "change_pte_range()",
    "mm/mprotect.c",
)
MOVE_VMA = _rule(
    "move-vma",
    "mremap(2) makes a VMA at the new address.",
    "move_vma()",
    "mm/mremap.c",
)
MOVE_ENTRIES = _rule(
    "move-entries",
    "mremap(2) moves the entries to the new address; no page is copied.",
    "move_ptes()",
    "mm/mremap.c",
)

# -- files ---------------------------------------------------------------------------------

CACHE = _rule(
    "cache",
    "write(2) puts the pattern into a file in memory: pages of the page cache are allocated and "
    "filled.",
    "shmem_write_begin()",
    "mm/shmem.c",
)
REFERENCE_PAGE = _rule(
    "reference-page",
    "The kernel allocates a page for the content, copies it in, and hands out a descriptor.",
    "refpage_create()",
    "mm/refpage.c of the reference-page patches",
)
DROP = _rule(
    "drop",
    "Nothing uses the file in memory any more: it goes, and its pages are freed.",
    "shmem_undo_range()",
    "mm/shmem.c",
)

# -- processes -----------------------------------------------------------------------------

FORK = _rule(
    "fork",
    "fork(2) makes a process.",
    "copy_process()",
    "kernel/fork.c",
)
FORK_VMAS = _rule(
    "fork-vmas",
    "The child gets a copy of every VMA, and an anon_vma of its own where the parent has one.",
    "dup_mmap(), anon_vma_fork()",
    "kernel/fork.c, mm/rmap.c",
)
FORK_ENTRIES = _rule(
    "fork-entries",
    "Entries of VMAs that have an anon_vma are copied; both processes then show the same pages, "
    "write-protected.",
    "copy_page_range()",
    "mm/memory.c",
)
FORK_LEAVES = _rule(
    "fork-leaves",
    "VMAs without an anon_vma have their entries left out: the child's own loads will bring them "
    "back.",
    "vma_needs_copy()",
    "mm/memory.c",
    untimed=True,
)
EXIT = _rule("exit", "The process ends, and its parent waits.", "exit_mmap()", "mm/mmap.c")

RULES: tuple[Rule, ...] = tuple(_FOUND)
"""All of them, in the order of the manual."""
