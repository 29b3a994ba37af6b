"""One running process of a container: signals to exactly it, and its exit code when it ends.

A pidfd names the process whoever its parent is, so processes that a template forked, or an earlier node started, are
waited for like our own. Their exit code comes from the parent where that is us or a template, else from the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import struct
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from onebox.processes import ProcessId, identify

_PIDFD_GET_INFO = 0xC040FF0B
"""_IOWR(0xFF, 11, 64 bytes) of linux/pidfd.h; Linux 6.13 has it, and exit codes in it since 6.15."""
_INFO_SIZE = 64
_INFO_EXIT = 1 << 3
_EXIT_CODE_OFFSET = 60
_REAP_TIMEOUT_S = 1.0
"""How long a parent gets to reap its child, after which the kernel tells the exit code. A guess, 100 times the usual."""
_REAP_POLL_S = 0.005

AskParent = Callable[[int], Awaitable[int | None]]
"""Exit code of a child by its pid (negative: signal), from whoever forked it; None where it cannot tell."""


def start_child(command: Sequence[str], *, env: Mapping[str, str], cwd: Path, output: int) -> int:
    """Starts a process in a session of its own and returns its pid; OSError where it cannot be executed.

    It outlives us. Whoever asks for its end reaps it.
    """
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=env,
        cwd=cwd,
        start_new_session=True,
    )
    # Popen wants to have seen the end of every process before it is forgotten; we reap by pidfd.
    child.returncode = 0
    return child.pid


class RunningProcess:
    """A process that runs, or has ended and whose end was not asked for yet.

    It holds a descriptor until its end was told or it is closed.
    """

    def __init__(self, identity: ProcessId, pidfd: int | None, *, ask_parent: AskParent | None = None) -> None:
        self.identity = identity
        self._pidfd = pidfd
        self._ask_parent = ask_parent

    @classmethod
    def adopt(cls, identity: ProcessId, ask_parent: AskParent | None = None) -> RunningProcess | None:
        """The process with this identity; None where it has ended."""
        pidfd = _open(identity)
        return None if pidfd is None else cls(identity, pidfd, ask_parent=ask_parent)

    @classmethod
    def of_fork(cls, identity: ProcessId, ask_parent: AskParent) -> RunningProcess:
        """A process that a template forked; it may have ended meanwhile, and the template knows how."""
        return cls(identity, _open(identity), ask_parent=ask_parent)

    @classmethod
    def of_child(cls, pid: int) -> RunningProcess:
        """A process that we started. It is ours to reap, so it is there even when it has ended already."""
        return cls(identify(pid) or ProcessId(pid, 0), os.pidfd_open(pid))

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to this very process, unless it has ended."""
        if self._pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    async def ended(self) -> int | None:
        """Waits for the end and returns the exit code, negative for a signal; None where nobody knows it."""
        if self._pidfd is not None:
            await _readable(self._pidfd)
        code = await self._exit_code()
        self.close()
        return code

    def close(self) -> None:
        """Forgets the process, which goes on if it runs."""
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    async def _exit_code(self) -> int | None:
        if self._pidfd is not None and (code := _reap(self._pidfd)) is not None:
            return code
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REAP_TIMEOUT_S):
                code = await self._ask_parent(self.identity.pid) if self._ask_parent else None
                if code is not None:
                    return code
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(_REAP_TIMEOUT_S):
                while self._pidfd is not None:
                    if (code := _kernels_exit_code(self._pidfd)) is not None:
                        return code
                    await asyncio.sleep(_REAP_POLL_S)
        return None


def _open(identity: ProcessId) -> int | None:
    try:
        pidfd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    if identity.alive():  # Looked at after the open, so that the pidfd is this process's.
        return pidfd
    os.close(pidfd)
    return None


def _reap(pidfd: int) -> int | None:
    """The exit code of a child of ours that has ended; None for somebody else's, which its own parent reaps."""
    try:
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return None
    if result is None:
        return None
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _kernels_exit_code(pidfd: int) -> int | None:
    """The exit code that the kernel keeps with a pidfd; None before the process was reaped; OSError on older kernels."""
    info = bytearray(_INFO_SIZE)
    struct.pack_into("<Q", info, 0, _INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    except ProcessLookupError:
        return None
    (mask,) = struct.unpack_from("<Q", info, 0)
    if not mask & _INFO_EXIT:
        return None
    (status,) = struct.unpack_from("<i", info, _EXIT_CODE_OFFSET)
    return os.waitstatus_to_exitcode(status)
