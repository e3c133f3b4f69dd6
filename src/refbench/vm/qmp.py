"""QEMU's monitor (QMP), for callers that wait: ``qemu.qmp`` with a deadline for every call.

All of asyncio is in here: one event loop in one thread that lives as long as the process.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import functools
import itertools
import logging
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from qemu.qmp import ExecuteError, QMPClient, QMPError

from refbench.errors import BackendError

_T = TypeVar("_T")
_SECONDS = 30.0
_GRACE = 5.0
"""Seconds beyond a call's own deadline before the loop itself is held to be stuck."""
_LOOK_AGAIN = 0.005


class Loop:
    """The event loop and its thread; :func:`loop` has the only one.

    The thread never ends before the process does, so that a child that is to die with the
    thread that started it (``PR_SET_PDEATHSIG``) dies with refbench, and not earlier.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._loop.run_forever, name="refbench-qmp", daemon=True)
        thread.start()
        atexit.register(self._end)

    def wait(self, work: Coroutine[Any, Any, _T], seconds: float) -> _T:
        """Run a coroutine there.

        :raises TimeoutError: when it is not done within ``seconds``.
        """
        future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, seconds), self._loop)
        try:
            return future.result(seconds + _GRACE)
        except concurrent.futures.TimeoutError:
            raise TimeoutError from None
        except BaseException:
            future.cancel()
            raise

    def call(self, function: Callable[[], _T], seconds: float) -> _T:
        """Run a function in the loop's thread.

        :raises TimeoutError: when it is not done within ``seconds``.
        """

        async def work() -> _T:
            return function()

        return self.wait(work(), seconds)

    def _end(self) -> None:
        """At the end of the process: what still waits for a monitor is given up quietly."""

        async def give_up() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        with contextlib.suppress(concurrent.futures.TimeoutError):
            asyncio.run_coroutine_threadsafe(give_up(), self._loop).result(_GRACE)


@functools.cache
def loop() -> Loop:
    """The process's one loop, started when it is first wanted."""
    logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())
    return Loop()


class Qmp:
    """The monitor of one QEMU, over a connected socket that it now owns.

    :raises ConnectionError: when QEMU does not greet within ``seconds``.
    """

    def __init__(self, endpoint: socket.socket, seconds: float = _SECONDS) -> None:
        self._client = QMPClient("refbench")
        self._jobs = itertools.count()
        self._endpoint = endpoint
        try:
            loop().wait(self._client.connect(endpoint), seconds)
        except (QMPError, OSError, EOFError) as error:
            self.close()
            raise ConnectionError(f"QEMU's monitor does not answer ({_words(error)})") from error

    def execute(self, command: str, *, seconds: float = _SECONDS, **arguments: object) -> object:
        """What QEMU returns for ``command``; an underscore in a keyword stands for a hyphen.

        :raises BackendError: when QEMU refuses it.
        :raises ConnectionError: when QEMU is gone or does not answer within ``seconds``.
        """
        given = {name.replace("_", "-"): value for name, value in arguments.items()}
        try:
            return loop().wait(self._client.execute(command, given or None), seconds)
        except ExecuteError as error:
            raise BackendError(
                f"QEMU refused {command}: {error}.", remedy="Another version of QEMU may do it."
            ) from error
        except TimeoutError as error:
            raise ConnectionError(f"QEMU did not answer {command} in {seconds:.0f} s") from error
        except (QMPError, OSError, EOFError) as error:
            raise ConnectionError(f"QEMU is gone ({_words(error)})") from error

    def job(self, command: str, *, seconds: float = _SECONDS, **arguments: object) -> None:
        """Run a command that is a job of QEMU's, to its end.

        :raises BackendError: when the job fails.
        :raises ConnectionError: when QEMU is gone, or the job is not done within ``seconds``.
        """
        name = f"refbench-{next(self._jobs)}"
        self.execute(command, seconds=seconds, job_id=name, **arguments)
        try:
            error = loop().wait(self._concluded(name), seconds)
        except TimeoutError as late:
            raise ConnectionError(f"QEMU did not finish {command} in {seconds:.0f} s") from late
        except (QMPError, OSError, EOFError) as gone:
            raise ConnectionError(f"QEMU is gone ({_words(gone)})") from gone
        self.execute("job-dismiss", id=name)
        if error:
            raise BackendError(
                f"QEMU's {command} failed: {error}.",
                remedy="Check the room on the disc of the cache, and QEMU's version.",
            )

    def status(self, seconds: float = _SECONDS) -> str:
        """The run state: ``running``, ``paused``, ``shutdown``, ...

        :raises ConnectionError: when QEMU is gone.
        """
        answer = self.execute("query-status", seconds=seconds)
        assert isinstance(answer, dict)
        return str(answer["status"])

    def close(self) -> None:
        """Hang up; may be called twice."""
        with contextlib.suppress(QMPError, OSError, EOFError):
            loop().wait(self._client.disconnect(), _SECONDS)
        self._endpoint.close()

    async def _concluded(self, name: str) -> str:
        """Wait for a job's end; its error, empty when it went well."""
        while True:
            jobs = await self._client.execute("query-jobs")
            assert isinstance(jobs, list)
            for job in jobs:
                if job["id"] == name and job["status"] == "concluded":
                    return str(job.get("error", ""))
            await asyncio.sleep(_LOOK_AGAIN)


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
