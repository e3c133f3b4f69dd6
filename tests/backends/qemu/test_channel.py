"""The channel to a guest keeps its promises, in a guest that nothing restores in between."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from refbench.backend import Answer
from refbench.testing import examine_channel
from refbench_qemu import port
from refbench_qemu.channel import QemuChannel
from refbench_qemu.session import QemuSession


def channel_of(session: QemuSession) -> QemuChannel:
    channel = session.channel
    assert isinstance(channel, QemuChannel)
    return channel


def talk(channel: QemuChannel, say: Path, text: str) -> Answer:
    answer = channel.run([channel.put(say), f"{text}\n"], 60)
    assert answer.returncode == 0, answer
    return answer


def test_every_promise_of_a_channel_is_kept(used: QemuSession) -> None:
    findings = list(examine_channel(used.channel, used.arch))
    assert findings
    assert [f"{f.promise}: {f.broken}" for f in findings if f.broken] == []


def test_a_line_that_tells_of_a_fault_is_of_the_program_that_ran(
    used: QemuSession, say: Path
) -> None:
    channel = channel_of(used)
    talk(channel, say, "<4>nothing that anybody minds")
    assert not channel.faults
    boots = channel.boots
    talk(channel, say, "<2>BUG: Bad rss-counter state mm:1 type:MM_FILEPAGES val:2")
    assert [fault.rule for fault in channel.faults] == ["bad rss-counter"]
    assert "val:2" in channel.faults[0].headline
    again = talk(channel, say, "<4>in a guest of its own")
    assert not channel.faults
    assert channel.boots == boots + 1
    assert "kernel-fault-before" not in again.facts


def test_a_fault_between_two_programs_is_told_with_the_next(used: QemuSession, say: Path) -> None:
    channel = channel_of(used)
    talk(channel, say, "<4>first")
    boots = channel.boots
    channel.guest().port.write("/dev/kmsg", "<2>WARNING: something that was put off\n")
    answer = talk(channel, say, "<4>next")
    assert "put off" in answer.facts["kernel-fault-before"]
    assert not channel.faults
    assert channel.boots == boots + 1


def test_a_guest_that_falls_silent_is_a_fault_of_its_kernel(
    used: QemuSession, say: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port, "KILL_SECONDS", 1.0)
    channel = channel_of(used)
    program = channel.put(say)
    machine = channel.guest().machine
    channel.guest().bring(program, say)
    machine.stop()
    answer = channel.run([program, "<4>too late"], 1)
    assert answer.deadline_passed
    assert [fault.rule for fault in channel.faults] == ["silent guest"]
    assert talk(channel, say, "<4>again").returncode == 0


def test_qemu_ended_from_outside_is_a_lost_connection(used: QemuSession, say: Path) -> None:
    channel = channel_of(used)
    program = channel.put(say)
    pid = channel.guest().machine.pid
    channel.guest().machine.stop()
    threading.Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()
    with pytest.raises(ConnectionError, match="SIGKILL"):
        channel.run([program, "<4>never"], 60)
    assert not channel.faults
    assert talk(channel, say, "<4>again").returncode == 0
