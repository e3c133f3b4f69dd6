"""Which lines of a kernel log are faults: real logs, the kernel's formats, and what only looks so.

logs/ holds consoles of guests in which a module, or the first process, made the fault happen.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from tests.vm.conftest import Boot

from refbench.errors import KernelFault, Stable
from refbench.vm.console import Console
from refbench.vm.guard import Allowed, Finding, Guard, scan

LOGS = Path(__file__).parent / "logs"
NATIVE = Path(__file__).resolve().parents[2] / "src" / "refbench" / "native"

REAL = {
    "rss-counter": ["bad rss-counter"],
    "oops": ["Oops"],
    "bug": ["Oops"],
    "warning": ["WARNING"],
    "panic": ["panic"],
    "rcu-stall": ["RCU stall", "soft lockup"],
    "hung-task": ["hung task", "hung task", "hung task"],
    "out-of-memory": ["OOM kill"],
    "memory-limit": ["OOM kill by a memory limit"],
}
FORMATS = {
    "BUG: Bad rss-counter state mm:(ptrval) type:MM_FILEPAGES val:-1": "bad rss-counter",
    "BUG: Bad page map in process agent  pte:8000000012345225 pmd:067": "bad page",
    "BUG: Bad page state in process agent  pfn:01234": "bad page",
    "BUG: non-zero pgtables_bytes on freeing mm: 4096": "bad page",
    "BUG: KASAN: slab-use-after-free in wp_page_copy+0x1/0x2": "KASAN",
    "UBSAN: shift-out-of-bounds in mm/memory.c:1:2": "UBSAN",
    "watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [agent:77]": "soft lockup",
    "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 31s!": "soft lockup",
    "NMI watchdog: Watchdog detected hard LOCKUP on cpu 1": "hard lockup",
    "watchdog: CPU1: Watchdog detected hard LOCKUP on cpu 1": "hard lockup",
    "rcu: INFO: rcu_sched self-detected stall on CPU": "RCU stall",
    "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 1-.... }": "RCU stall",
    "INFO: task kswapd0:33 blocked for more than 120 seconds.": "hung task",
    "WARNING: possible circular locking dependency detected": "lockdep",
    "WARNING: possible recursive locking detected": "lockdep",
    "WARNING: possible irq lock inversion dependency detected": "lockdep",
    "WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected": "lockdep",
    "WARNING: inconsistent lock state": "lockdep",
    "WARNING: bad unlock balance detected!": "lockdep",
    "WARNING: suspicious RCU usage": "lockdep",
    "INFO: possible recursive locking detected": "lockdep",
    "INFO: trying to register non-static key.": "lockdep",
    "BUG: Invalid wait context": "lockdep",
    "BUG: unable to handle page fault for address: ffff888100000000": "Oops",
    "Oops: general protection fault, probably for non-canonical address 0xdead": "Oops",
    "general protection fault, probably for non-canonical address 0xdead: 0000 [#1]": "Oops",
    "kernel BUG at mm/memory.c:4321!": "Oops",
    "Internal error: Oops: 0000000096000004 [#1] SMP": "Oops",
    "Unable to handle kernel NULL pointer dereference at virtual address 00000000": "Oops",
    "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009": "panic",
    "Out of memory: Killed process 77 (agent) total-vm:1kB": "OOM kill",
    "Memory cgroup out of memory: Killed process 77 (agent)": "OOM kill by a memory limit",
    "WARNING: CPU: 0 PID: 1 at mm/memory.c:1 vm_normal_page+0x1/0x2": "WARNING",
    "BUG: sleeping function called from invalid context at mm/memory.c:1": "BUG",
    "BUG: scheduling while atomic: agent/77/0x00000002": "BUG",
    "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)": "BUG",
}
HARMLESS = [
    "Command line: console=ttyS0 BUG: panic=-1 WARNING: Oops",
    "Kernel command line: oops=panic WARNING: Kernel panic - not syncing",
    'Unknown kernel command line parameters "BUG: WARNING:", will be passed to user space.',
    "warning: `agent' uses 32-bit capabilities (legacy support in use)",
    "traps: agent[77] general protection fault ip:401000 sp:7ffe error:0 in agent[401000+1000]",
    "agent[77]: segfault at 0 ip 0000000000401000 sp 00007ffe error 4 in agent[401000+1000]",
    "Spectre V2 : WARNING: Unprivileged eBPF is enabled, data leaks possible",
    "[Firmware Bug]: TSC_DEADLINE disabled due to Errata",
    "refbench_faults: loading out-of-tree module taints kernel.",
    "APIC timer disabled due to verification failure",
    "tsc: Unable to calibrate against PIT",
    "rcu: Hierarchical RCU implementation.",
    "Lock dependency validator: Copyright (c) 2006 Red Hat, Inc., Ingo Molnar",
    "kasan: KernelAddressSanitizer initialized (generic)",
    "SeaBIOS (version 1.16.2-debian-1.16.2-1)",
    "a program says BUG: in the middle of its line",
]


def read(name: str) -> list[str]:
    return (LOGS / f"{name}.txt").read_text().splitlines()


def rules(found: tuple[Finding, ...]) -> list[str]:
    return [finding.rule for finding in found]


@pytest.mark.parametrize("name", REAL)
def test_a_real_fault_is_found_under_its_name(name: str) -> None:
    assert rules(scan(read(name))) == REAL[name]


def test_every_log_that_there_is_is_looked_at() -> None:
    assert {path.stem for path in LOGS.iterdir()} == set(REAL)


@pytest.mark.parametrize("line", FORMATS)
@pytest.mark.parametrize(
    "stamp", ["[   12.345678] ", "[   12.345678][   T77] ", "<4>[ 1.000000] ", ""]
)
def test_a_line_of_the_kernels_is_a_fault_with_and_without_its_stamp(line: str, stamp: str) -> None:
    assert rules(scan([stamp + line])) == [FORMATS[line]]


@pytest.mark.parametrize("line", HARMLESS)
def test_a_line_that_only_looks_like_a_fault_is_none(line: str) -> None:
    assert scan([f"[    1.000000] {line}"]) == ()


def test_a_report_behind_a_programs_unfinished_line_is_found() -> None:
    assert rules(scan(["guest: workin[    2.000000] BUG: Bad rss-counter state mm:0"])) == [
        "bad rss-counter"
    ]


def test_an_oops_keeps_its_report_from_the_first_line_to_the_end_mark() -> None:
    log = read("oops")
    (finding,) = scan(log)
    assert "BUG: kernel NULL pointer dereference" in finding.lines[0]
    assert "---[ end trace" in finding.lines[-1]
    start = log.index(finding.lines[0])
    assert tuple(log[start : start + len(finding.lines)]) == finding.lines


def test_a_warning_keeps_what_was_said_before_it_since_the_cut() -> None:
    log = ["[    1.000000] ------------[ cut here ]------------"]
    log += ["[    1.000001] refcount_t: overflow; use-after-free."]
    log += ["[    1.000002] WARNING: CPU: 0 PID: 7 at lib/refcount.c:25 x+0x0/0x1"]
    log += ["[    1.000003] ---[ end trace 0000000000000000 ]---", "[    1.000004] more"]
    (finding,) = scan(log)
    assert finding.lines == tuple(log[:4])
    assert finding.headline.startswith("WARNING: CPU: 0")


def test_two_counters_of_one_process_are_one_finding_and_a_later_one_is_another() -> None:
    log = ["[    1.000000] BUG: Bad rss-counter state mm:0 type:MM_FILEPAGES val:-8"]
    log += ["[    1.000100] BUG: Bad rss-counter state mm:0 type:MM_ANONPAGES val:8"]
    log += ["[    9.000000] BUG: Bad rss-counter state mm:1 type:MM_ANONPAGES val:8"]
    assert [len(finding.lines) for finding in scan(log)] == [2, 1]


def test_faults_of_different_kinds_in_a_row_keep_their_names() -> None:
    log = ["[    1.000000] BUG: Bad rss-counter state mm:0 type:MM_FILEPAGES val:-8"]
    log += ["[    1.000010] WARNING: CPU: 0 PID: 7 at a.c:1 x+0x0/0x1"]
    log += ["[    1.000020] ---[ end trace 0000000000000000 ]---"]
    log += ["[    1.000030] Kernel panic - not syncing: Fatal exception"]
    assert rules(scan(log)) == ["bad rss-counter", "WARNING", "panic"]


def test_a_kill_of_the_machine_and_one_by_a_limit_are_told_apart_by_their_last_line() -> None:
    log = ["[    1.000000] agent invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0"]
    last = "[    1.000100] {} out of memory: Killed process 77 (agent) total-vm:1kB"
    assert rules(scan([*log, last.format("Memory cgroup")])) == ["OOM kill by a memory limit"]
    assert rules(scan([*log, last.format("O").replace("O out", "Out")])) == ["OOM kill"]


def test_a_line_that_is_allowed_with_a_reason_is_none_and_no_other_is() -> None:
    allowed = (Allowed(r"WARNING: a notice of this configuration", "it says so at every boot"),)
    assert scan(["[    1.000000] WARNING: a notice of this configuration"], allowed) == ()
    assert rules(scan(["[    1.000000] WARNING: a notice of this configuration!"], allowed))


def test_the_agents_own_list_is_a_part_of_the_guards() -> None:
    text = (NATIVE / "agent" / "kernel_log.c").read_text()
    listed = re.search(r"bad\[\] = \{([^}]*)\}", text)
    assert listed
    words = re.findall(r'"([^"]+)"', listed[1])
    assert words
    for word in words:
        examples = [line for line in FORMATS if word in line]
        assert examples, f"the guard knows no line with {word!r}"


def test_a_guard_tells_each_fault_once(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    guard = Guard(Console(path))
    assert guard.look() == ()
    path.write_text("[    1.000000] booting\n[    2.000000] BUG: Bad rss-counter state mm:0\n")
    assert rules(guard.look(patience=0.3)) == ["bad rss-counter"]
    assert guard.look() == ()
    with path.open("a") as file:
        file.write("[    3.000000] BUG: Bad page map in process agent\n")
    assert rules(guard.look(patience=0.3)) == ["bad page"]


def test_a_finding_becomes_a_failure_that_is_not_tried_again() -> None:
    fault = scan(read("rss-counter"))[0].fault()
    assert isinstance(fault, KernelFault)
    assert isinstance(fault, Stable)
    assert "Bad rss-counter state" in fault.message
    assert any("Bad rss-counter state" in line for line in fault.log)


def test_a_whole_boot_with_every_message_is_clean(boot: Boot) -> None:
    guest = boot(append=("loglevel=8", "WARNING:", "BUG:"))
    lines = guest.machine.console.lines()
    assert sum("WARNING: BUG:" in line for line in lines) > 0
    assert len(lines) > 50
    assert Guard(guest.machine.console).look() == ()


@pytest.mark.parametrize(
    ("letter", "rule"), [("m", "OOM kill by a memory limit"), ("o", "OOM kill")]
)
def test_a_live_guest_that_runs_out_of_memory(boot: Boot, letter: str, rule: str) -> None:
    guest = boot()
    guard = Guard(guest.machine.console)
    guard.look()
    guest.ask(letter)
    found = guard.look()
    assert rules(found) == [rule]
    assert "Killed process" in found[0].lines[-1]
    guest.ask("t")
    assert guard.look() == ()


def test_a_live_guest_that_panics_and_ends(boot: Boot) -> None:
    guest = boot()
    guard = Guard(guest.machine.console)
    guest.send("x")
    assert guest.machine.port.recv(1) == b""
    assert rules(guard.look()) == ["panic"]


def test_a_live_guest_that_says_nothing_any_more(boot: Boot) -> None:
    guest = boot()
    guard = Guard(guest.machine.console)
    begin = time.monotonic()
    guest.send("h")
    guest.machine.port.settimeout(0.5)
    with pytest.raises(TimeoutError):
        guest.machine.port.recv(1)
    assert guard.look() == ()
    finding = guard.silence(time.monotonic() - begin, guest.machine.qmp.status())
    assert finding.rule == "silent guest"
    assert "running" in finding.lines[0]
    assert any("guest up" in line for line in finding.lines)
