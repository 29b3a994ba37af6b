"""A process that has a runtime's libraries imported and forks itself into a new server on request.

Importing scikit-learn takes two seconds, forking takes milliseconds, and forked servers share the imported pages. This
module decides how a child comes into being; what it then does is the module's that the request names.

    python -m ladle.server.template --socket PATH --preload runtimes.sklearnserver.preload

The socket is SOCK_SEQPACKET, one JSON object a packet. Requests and answers:

    {"id", "module", "argv", "env", "cwd"} + [stdout, stderr]   ->  {"id", "pid"} or {"id", "error"}
    {"list": true}                                              ->  {"children": [{"id", "pid"}], "pid"}
    (a child ended)                                             ->  {"pid", "exit_code"}, negative for a signal

An id whose child lives is answered with that child: a client that lost an answer asks again and starts nothing twice.
The newest client owns the template; endings that nobody was told about wait for the next one. A unix address holds 107
bytes; clients reach longer paths as /proc/self/fd/N/NAME with N an open directory, as `listen` does.

Rules: one thread, nothing but imports before the fork (a thread pool, an inference session or a gRPC channel would be
dead in the child), and gc.freeze(), since a collection would write to, and so copy, every shared page.

The fork itself takes 4 ms of 200 MB (page tables), which a request from zero waits for. So with --spare a template
forks the next child ahead, in a quiet moment: the spare, which waits for its request. It holds the listening
socket too: where the template is killed, its spare goes on in its place, and nobody waits for three seconds of imports. The
children from before are listed with `"orphan": true`: how they end, nobody tells.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ladle.clock import SystemClock
from ladle.server.child import ChildSpec, leave, run_child

PACKET_BYTES_MAX = 1024 * 1024
"""Longest request; environments are a few kB. The kernel's own limit for a packet is about 208 KiB unless raised."""
_PASSED_FDS = 2
_ENDINGS_MAX = 1024
"""Endings kept for the next client: more pods than one machine has. A guess."""
_BACKLOG = 8
SPARE_DELAY_S = 0.1
"""From the last fork to that of a spare: servers that have just begun have the processor first. A guess, twice what one takes
to start."""
_DISMISSED = b"{}"
"""What a spare is told whose template ends in order."""
_REACHABLE_CHECK_S = 5.0
"""How often a template without a client looks whether anybody can still find it. A guess."""
_ALWAYS_IMPORTED = ("encodings.idna",)
"""What the standard library imports when a server begins to listen (2 ms): any host that is text goes through it."""


class BadRequest(ValueError):
    """The client sent what is no request; it gets the text as `error`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serves forks until SIGTERM; children live on."""
    options = _parser().parse_args(argv)
    listener = listen(Path(options.socket))
    preload(options.preload)
    Template(listener, Path(options.socket), keeps_spare=options.spare).serve()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ladle.server.template", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--socket", required=True, help="path of the unix socket to listen on")
    parser.add_argument("--spare", action="store_true", help="fork the next child before anybody asks for it")
    parser.add_argument("--preload", nargs="*", default=[], metavar="MODULE", help="modules to import before forking")
    return parser


def listen(path: Path) -> socket.socket:
    """A listening socket at `path`, which it takes over in one step from a template that is gone."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        temporary = f"/proc/self/fd/{directory}/.{os.getpid()}"
        listener.bind(temporary)
        os.chmod(temporary, 0o600)
        # Listening before the rename: whoever finds the path can connect, and waits until the imports are done.
        listener.listen(_BACKLOG)
        os.replace(temporary, path)
    finally:
        os.close(directory)
    return listener


def preload(modules: Sequence[str]) -> None:
    """Imports what the children will need; a module that is missing here fails in the child that needs it."""
    gc.disable()
    for module in (*_ALWAYS_IMPORTED, *modules):
        try:
            importlib.import_module(module)
        except ImportError as error:
            sys.stderr.write(f"template: {module} was not preloaded: {error}\n")
    gc.collect()
    gc.freeze()


@dataclass(frozen=True, slots=True)
class _Spare:
    """A child that waits for its request."""

    pid: int
    channel: socket.socket
    """Our end; when it closes, the spare ends."""


class Template:
    """The loop: one listener, at most one client, any number of children."""

    def __init__(self, listener: socket.socket, path: Path, *, keeps_spare: bool = False) -> None:
        """`listener` listens at `path`."""
        self._listener = listener
        self._path = path
        self._socket_inode = _inode(path)
        self._keeps_spare = keeps_spare
        self._orphans: dict[int, str] = {}
        """Children of the template whose place this one took, as in `_children`."""
        self._client: socket.socket | None = None
        self._children: dict[int, str] = {}
        """The id of the request that started each living child, by pid."""
        self._endings: deque[dict[str, object]] = deque(maxlen=_ENDINGS_MAX)
        self._spare: _Spare | None = None
        self._spare_due_s: float | None = None
        """When to fork a spare, where there is none."""
        self._stopping = False
        self._clock = SystemClock()
        self._selector = selectors.DefaultSelector()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)

    def serve(self) -> None:
        """Returns after SIGTERM, or when another template has its path and its client is gone."""
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._stop)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        self._spare_due_s = self._clock.monotonic_s() + SPARE_DELAY_S
        while not self._stopping:
            for key, _ in self._selector.select(self._wait_s()):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is self._wake_reader:
                    self._wake_reader.recv(4096)
                elif key.fileobj is self._client:
                    self._receive()
            self._reap()
            self._tell_endings()
            if self._spare_wait_s() == 0:
                self._fork_spare()
            if self._client is None and _inode(self._path) != self._socket_inode:
                break
        self._dismiss_spare()

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        self._drop_client()
        connection.setblocking(False)
        self._client = connection
        self._selector.register(connection, selectors.EVENT_READ)

    def _drop_client(self) -> None:
        if self._client is not None:
            self._selector.unregister(self._client)
            self._client.close()
            self._client = None

    def _receive(self) -> None:
        assert self._client is not None
        try:
            packet, fds = _receive_packet(self._client)
        except BlockingIOError:
            return
        except OSError:
            packet, fds = b"", []
        if not packet:
            self._drop_client()
            return
        try:
            answer = self._answer(packet, fds)
        finally:
            for fd in fds:
                os.close(fd)
        if not self._send(answer):
            self._drop_client()

    def _answer(self, packet: bytes, fds: list[int]) -> dict[str, object]:
        request_id: object = None
        try:
            request = _parse(packet)
            if request.get("list") is True:
                return {"children": self._list_children(), "pid": os.getpid()}
            request_id = request.get("id")
            return {"id": request_id, "pid": self._start(_child_spec(request, fds), packet)}
        except (BadRequest, OSError) as error:
            return {"id": request_id, "error": str(error)}

    def _list_children(self) -> list[dict[str, object]]:
        own = [{"id": child_id, "pid": pid} for pid, child_id in self._children.items()]
        return own + [{"id": child_id, "pid": pid, "orphan": True} for pid, child_id in self._orphans.items()]

    def _start(self, spec: ChildSpec, packet: bytes) -> int:
        self._reap()
        for pid, child_id in self._children.items():
            if child_id == spec.id:
                return pid
        pid = self._hand_to_spare(spec, packet) or self._fork(lambda: run_child(spec))
        self._children[pid] = spec.id
        self._spare_due_s = self._clock.monotonic_s() + SPARE_DELAY_S
        return pid

    def _hand_to_spare(self, spec: ChildSpec, packet: bytes) -> int | None:
        """The spare's pid, which becomes this child; None where there is none to take it."""
        spare, self._spare = self._spare, None
        if spare is None:
            return None
        with spare.channel:
            try:
                socket.send_fds(spare.channel, [packet], [spec.stdout_fd, spec.stderr_fd], socket.MSG_NOSIGNAL)
            except OSError:  # Somebody killed it.
                return None
        return spare.pid

    def _spare_wait_s(self) -> float | None:
        if not self._keeps_spare or self._spare is not None or self._spare_due_s is None:
            return None
        return max(0.0, self._spare_due_s - self._clock.monotonic_s())

    def _fork_spare(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

        def wait() -> NoReturn:
            ours.close()
            with theirs:
                packet, fds = _receive_packet(theirs)
            if not packet:
                self._take_over()
            self._listener.close()
            if packet == _DISMISSED:
                os._exit(0)
            run_child(_child_spec(_parse(packet), fds))

        with theirs:
            ours.setblocking(False)
            self._spare = _Spare(self._fork(wait, keeps_listener=True), ours)

    def _take_over(self) -> NoReturn:
        """What a spare does whose template was killed: goes on in its place, as a session of its own like any template."""

        def serve() -> int:
            os.setsid()
            heir = Template(self._listener, self._path, keeps_spare=True)
            heir._socket_inode = self._socket_inode
            # No child was started since the spare was forked: each start takes the spare.
            heir._orphans = {**self._orphans, **self._children}
            heir.serve()
            return 0

        leave(serve)

    def _dismiss_spare(self) -> None:
        if self._spare is not None:
            with contextlib.suppress(OSError):
                self._spare.channel.send(_DISMISSED, socket.MSG_NOSIGNAL)

    def _wait_s(self) -> float | None:
        """How long to wait for somebody to ask."""
        waits = (self._spare_wait_s(), _REACHABLE_CHECK_S if self._client is None else None)
        return min((wait_s for wait_s in waits if wait_s is not None), default=None)

    def _fork(self, live: Callable[[], NoReturn], *, keeps_listener: bool = False) -> int:
        # Blocked around the fork: a SIGTERM for the newborn child must find the child's own disposition.
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        pid = os.fork()
        if pid == 0:
            self._leave_template(previous)
            if not keeps_listener:
                self._listener.close()
            live()
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
        return pid

    def _leave_template(self, signal_mask: set[int | signal.Signals]) -> None:
        """What a child does first: nothing of the loop's is its own."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, signal_mask)
        self._selector.close()
        for inherited in (self._client, self._wake_reader, self._wake_writer):
            if inherited is not None:
                inherited.close()

    def _reap(self) -> None:
        while self._children or self._spare is not None:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            if self._spare is not None and self._spare.pid == pid:
                self._spare.channel.close()
                self._spare = None
                self._spare_due_s = self._clock.monotonic_s() + SPARE_DELAY_S
            elif self._children.pop(pid, None) is not None:
                self._endings.append({"pid": pid, "exit_code": os.waitstatus_to_exitcode(status)})

    def _tell_endings(self) -> None:
        while self._endings and self._client is not None:
            if self._send(self._endings[0]):
                self._endings.popleft()
            else:
                self._drop_client()

    def _send(self, message: dict[str, object]) -> bool:
        """False where the client is gone, or reads so little that its buffer is full: then it has to come again."""
        assert self._client is not None
        try:
            self._client.send(json.dumps(message).encode(), socket.MSG_NOSIGNAL)
        except OSError:
            return False
        return True


def _inode(path: Path) -> int | None:
    """Which file the path names now; None where there is none."""
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _receive_packet(client: socket.socket) -> tuple[bytes, list[int]]:
    fds = array.array("i")
    packet, ancillary, flags, _ = client.recvmsg(PACKET_BYTES_MAX, socket.CMSG_SPACE(_PASSED_FDS * fds.itemsize))
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    if flags & socket.MSG_TRUNC:
        packet = b"[truncated]"
    return packet, list(fds)


def _parse(packet: bytes) -> dict[str, object]:
    try:
        request = json.loads(packet)
    except ValueError as error:
        raise BadRequest(f"not JSON: {error}") from None
    if not isinstance(request, dict):
        raise BadRequest(f"a request is a JSON object of at most {PACKET_BYTES_MAX} bytes")
    return request


def _child_spec(request: dict[str, object], fds: list[int]) -> ChildSpec:
    if len(fds) != _PASSED_FDS:
        raise BadRequest(f"a request passes two file descriptors, stdout and stderr; {len(fds)} came")
    argv, env = request.get("argv", []), request.get("env", {})
    if not isinstance(argv, list) or not all(isinstance(word, str) for word in argv):
        raise BadRequest("argv must be a list of strings")
    if not isinstance(env, dict) or not all(isinstance(value, str) for value in env.values()):
        raise BadRequest("env must be an object of strings")
    return ChildSpec(
        id=_text(request, "id"),
        module=_text(request, "module"),
        argv=tuple(argv),
        env=env,
        cwd=_text(request, "cwd"),
        stdout_fd=fds[0],
        stderr_fd=fds[1],
    )


def _text(request: dict[str, object], name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str) or not value:
        raise BadRequest(f"{name} must be a non-empty string")
    return value


if __name__ == "__main__":
    sys.exit(main())
