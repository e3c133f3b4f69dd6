"""The monitor of a real QEMU: answers, refusals, deadlines, jobs, and its end."""

from __future__ import annotations

import socket
import time

import pytest
from tests.vm.conftest import Boot

from refbench.errors import BackendError
from refbench.vm.qmp import Qmp


def test_a_command_is_answered(boot: Boot) -> None:
    qmp = boot().machine.qmp
    answer = qmp.execute("query-name")
    assert isinstance(answer, dict)
    assert qmp.status() == "running"


def test_a_refusal_has_qemus_words(boot: Boot) -> None:
    with pytest.raises(BackendError, match=r"no-such-command.*not been found"):
        boot().machine.qmp.execute("no-such-command")


def test_a_job_that_fails_has_qemus_words(boot: Boot) -> None:
    with pytest.raises(BackendError, match="blockdev-create failed"):
        boot().machine.qmp.job(
            "blockdev-create",
            options={"driver": "file", "filename": "/nonexistent/disc", "size": 0},
        )


def test_a_monitor_that_says_nothing_is_given_up_in_time() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        begin = time.monotonic()
        with pytest.raises(ConnectionError, match="does not answer"):
            Qmp(ours, 0.3)
        assert time.monotonic() - begin < 20


def test_a_monitor_that_hangs_up_is_told_at_once() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with pytest.raises(ConnectionError, match="does not answer"):
        Qmp(ours, 20)


def test_a_qemu_that_was_killed_is_gone(boot: Boot) -> None:
    machine = boot().machine
    qmp = machine.qmp
    machine.kill()
    with pytest.raises(ConnectionError, match="gone"):
        qmp.execute("query-status")
    qmp.close()
