"""/dev/refpage keeps its promises: see programs/device.c."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from refbench_qemu.channel import QemuChannel


@pytest.mark.parametrize("handler", ["safe", "naive"])
def test_the_device_keeps_its_promises(
    guest_with: Callable[..., QemuChannel], guest_program: Callable[[str], Path], handler: str
) -> None:
    channel = guest_with("patched")
    try:
        answer = channel.run([channel.put(guest_program("device")), handler], deadline=60)
    finally:
        channel.close()
    assert not answer.deadline_passed
    assert channel.faults == ()
    assert [line for line in answer.stdout if not line.startswith("ok ")] == ["1..22"]
    assert answer.returncode == 0
