"""What a guest is asked for over its virtio port; native/guest/main.c describes the requests."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence

from refbench.backend import Answer
from refbench.launched import Outcome

REQUEST_SECONDS = 60.0
"""How long a guest may take over a request that runs no program."""
KILL_SECONDS = 10.0
"""How long it may take to say that a program has ended which it was told to end."""
_CHUNK = 1 << 18
_INSTANT = 0.001
_WITH_DATA = {"data", "out", "err"}


class SilentGuestError(Exception):
    """The guest has not answered for ``waited`` seconds, though its port is open."""

    def __init__(self, waited: float) -> None:
        super().__init__(f"it said nothing for {waited:.0f} s")
        self.waited = waited


class RefusedError(Exception):
    """The guest's kernel refused a request; the text says which call, and why."""


class GuestPort:
    """One end of the byte stream. Every method raises ConnectionError when the other end has
    gone, and :class:`SilentGuestError` when it says nothing in time."""

    def __init__(self, endpoint: socket.socket) -> None:
        self._socket = endpoint
        self._buffer = bytearray()
        self._heard = time.monotonic()

    def ready(self, seconds: float) -> dict[str, str]:
        """Wait for the guest's first words; the settings that its kernel refused."""
        end = time.monotonic() + seconds
        refused: dict[str, str] = {}
        while True:
            words, _ = self._message(end)
            if words[0] == "ready":
                return refused
            refused[words[1]] = os.strerror(int(words[2]))

    def put(self, path: str, mode: int, content: bytes) -> None:
        """Write a file there.

        :raises RefusedError: when there is no room, for one.
        """
        self._ask(f"put {path} {mode:o} {len(content)}", content)

    def write(self, path: str, text: str) -> None:
        """Write a setting.

        :raises RefusedError: when the kernel does not take it.
        """
        self._ask(f"write {path} {len(text.encode())}", text.encode())

    def read(self, path: str) -> str:
        """The text of a small file, without white space around it; empty when it cannot be
        read."""
        try:
            return self._ask(f"read {path}").decode(errors="replace").strip()
        except RefusedError:
            return ""

    def module(self, path: str, arguments: str) -> None:
        """Load a module from a file there.

        :raises RefusedError: when the kernel does not take it.
        """
        self._ask(f"module {path} {len(arguments.encode())}", arguments.encode())

    def swap(self, path: str) -> None:
        """Make a block device swap and use it.

        :raises RefusedError: when the kernel does not.
        """
        self._ask(f"swap {path}")

    def mount(self, kind: str, device: str, place: str) -> None:
        """Mount the file system of a block device.

        :raises RefusedError: when the kernel does not.
        """
        self._ask(f"mount {kind} {device} {place}")

    def run(self, argv: Sequence[str], deadline: float) -> Answer:
        """Run a program to its end, ``deadline`` seconds at most."""
        request = "\0".join(argv).encode(errors="surrogateescape")
        self._send(f"run {len(request)}\n".encode() + request)
        end = time.monotonic() + deadline
        outcome = Outcome()
        while True:
            try:
                words, data = self._message(end)
            except SilentGuestError:
                if outcome.late:
                    raise
                outcome.late = True
                self._send(b"kill\n")
                end = time.monotonic() + KILL_SECONDS
                continue
            if words[0] in {"out", "err"}:
                outcome.texts[words[0] == "err"].extend(data)
                if outcome.too_much:
                    self._send(b"kill\n")
                    outcome.drop()
            elif outcome.take(words):
                return outcome.answer()

    def _ask(self, request: str, content: bytes = b"") -> bytes:
        self._send(request.encode() + b"\n" + content)
        words, data = self._message(time.monotonic() + REQUEST_SECONDS)
        if words[0] == "failed":
            verb, _, path = request.partition(" ")
            reason = os.strerror(int(words[2]))
            raise RefusedError(f"{verb} {path.partition(' ')[0]}: {words[1]}: {reason}")
        return data

    def _send(self, data: bytes) -> None:
        self._heard = time.monotonic()
        self._socket.settimeout(REQUEST_SECONDS)
        try:
            self._socket.sendall(data)
        except TimeoutError as error:
            raise SilentGuestError(REQUEST_SECONDS) from error

    def _message(self, end: float) -> tuple[list[str], bytes]:
        """The words of the next line, and the bytes that belong to it."""
        while True:
            start = self._buffer.find(b"\n") + 1
            if start:
                words = self._buffer[:start].decode().split()
                size = int(words[1]) if words[0] in _WITH_DATA else 0
                if len(self._buffer) >= start + size:
                    data = bytes(self._buffer[start : start + size])
                    del self._buffer[: start + size]
                    return words, data
            self._receive(end)

    def _receive(self, end: float) -> None:
        self._socket.settimeout(max(end - time.monotonic(), _INSTANT))
        try:
            data = self._socket.recv(_CHUNK)
        except TimeoutError:
            raise SilentGuestError(time.monotonic() - self._heard) from None
        self._heard = time.monotonic()
        if not data:
            raise ConnectionResetError("the guest's port was closed")
        self._buffer += data
