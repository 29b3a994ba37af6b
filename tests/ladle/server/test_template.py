"""The fork server as the node uses it: a real process, real descriptors, real children."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.waiting import wait_for

DEADLINE_S = 20.0
CHILD = """
import os, signal, sys

def main(argv):
    print(argv, os.environ.get("COLOUR"), "PATH" in os.environ, os.getcwd(), os.getpgrp() == os.getpid(), flush=True)
    sys.stderr.write("to stderr\\n")
    if argv == ["wait"]:
        signal.pause()
    if argv == ["raise"]:
        raise RuntimeError("no such luck")
    if argv == ["exit"]:
        sys.exit("leaving")
    if argv == ["fds"]:
        print(sorted(int(fd) for fd in os.listdir("/proc/self/fd")))
    return int(argv[0]) if argv and argv[0].isdigit() else 0
"""


class Client:
    """What the node does: one packet a request, two descriptors with it."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(DEADLINE_S)
        directory = os.open(path.parent, os.O_PATH)
        try:
            self.socket.connect(f"/proc/self/fd/{directory}/{path.name}")
        except OSError:
            self.socket.close()
            raise
        finally:
            os.close(directory)

    def ask(self, message: object, fds: list[int]) -> dict[str, Any]:
        packet = message if isinstance(message, bytes) else json.dumps(message).encode()
        socket.send_fds(self.socket, [packet], fds)
        return self.read()

    def children(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask({"list": True}, [])["children"]
        return found

    def read(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.socket.recv(65536))
        return answer


class World:
    """A template with a module `greeter` to start, and files for the children's output."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        package = directory / "greeter"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(CHILD)
        self.path = directory / "template.sock"
        self.out = directory / "out"
        self.err = directory / "err"
        self.clients: list[Client] = []
        self.process = self.start()

    def connect(self) -> Client:
        self.clients.append(Client(self.path))
        return self.clients[-1]

    def close(self) -> None:
        for client in self.clients:
            client.socket.close()
        self.process.terminate()
        self.process.wait(DEADLINE_S)

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "ladle.server.template", "--socket", str(self.path), "--spare"]
        process = subprocess.Popen([*command, "--preload", "greeter", "nowhere.to.be.found"], cwd=self.directory)
        wait_for("the socket", lambda: self.path.exists() and self.listens(process.pid))
        return process

    def listens(self, pid: int) -> bool:
        """Whether this very process listens: a child of a killed template holds its listener until it has closed it."""
        with contextlib.suppress(OSError), self.connect().socket as connected:
            credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            return bool(struct.unpack("3i", credentials)[0] == pid)
        return False

    def spawn(self, client: Client, *argv: str, **changes: object) -> dict[str, Any]:
        request = {
            "id": "pod/0",
            "module": "greeter",
            "argv": list(argv),
            "env": {"COLOUR": "red"},
            "cwd": "/",
            **changes,
        }
        with self.out.open("ab") as out, self.err.open("ab") as err:
            return client.ask(request, [out.fileno(), err.fileno()])

    def spare(self) -> int:
        """The pid of the child that was forked ahead, once there is one; for a template without other children."""
        (found,) = self.children(1)
        return found

    def children(self, count: int) -> list[int]:
        """The processes that the template has forked, once there are so many."""
        template = psutil.Process(self.process.pid)
        wait_for(f"{count} children", lambda: len(template.children()) == count)
        return [child.pid for child in template.children()]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    # Longer than a unix address may be: homes are where users put them.
    directory = tmp_path / ("long" * 25)
    directory.mkdir()
    world = World(directory)
    yield world
    world.close()


def test_a_child_runs_main_with_its_own_arguments_environment_directory_and_session(world: World) -> None:
    client = world.connect()
    started = world.spawn(client, "7")
    assert client.read() == {"pid": started["pid"], "exit_code": 7}
    assert world.out.read_text() == "['7'] red False / True\n"
    assert world.err.read_text() == "to stderr\n"


def test_a_child_inherits_no_descriptor_of_the_template(world: World) -> None:
    client = world.connect()
    world.spawn(client, "fds")
    assert client.read()["exit_code"] == 0
    assert world.out.read_text().endswith("[0, 1, 2, 3]\n")  # 3 is the directory that is being listed.


@pytest.mark.parametrize(("word", "text"), [("raise", "RuntimeError: no such luck"), ("exit", "leaving")])
def test_a_failing_child_exits_with_1_and_says_why(world: World, word: str, text: str) -> None:
    client = world.connect()
    world.spawn(client, word)
    assert client.read()["exit_code"] == 1
    assert text in world.err.read_text()


def test_a_module_that_is_missing_fails_in_the_child(world: World) -> None:
    client = world.connect()
    world.spawn(client, module="no.such.module")
    assert client.read()["exit_code"] == 1
    assert "no.such.module" in world.err.read_text() or "No module named 'no'" in world.err.read_text()


def test_a_signal_ends_a_child_with_a_negative_code(world: World) -> None:
    client = world.connect()
    pid = world.spawn(client, "wait")["pid"]
    wait_for("the child's greeting", lambda: world.out.exists() and world.out.read_text())
    os.kill(pid, signal.SIGTERM)
    assert client.read() == {"pid": pid, "exit_code": -signal.SIGTERM}


def test_the_same_id_starts_nothing_twice_while_its_child_lives(world: World) -> None:
    client = world.connect()
    first = world.spawn(client, "wait")
    client.socket.close()
    client = world.connect()
    assert world.spawn(client, "wait") == first
    assert client.children() == [first]
    os.kill(first["pid"], signal.SIGKILL)
    assert client.read()["exit_code"] == -signal.SIGKILL
    assert world.spawn(client, "0")["pid"] != first["pid"]


def test_the_next_client_learns_what_ended_while_nobody_listened(world: World) -> None:
    client = world.connect()
    pid = world.spawn(client, "wait")["pid"]
    client.socket.close()
    os.kill(pid, signal.SIGKILL)
    assert world.connect().read() == {"pid": pid, "exit_code": -signal.SIGKILL}


def test_children_survive_the_template_and_a_new_one_takes_over_the_path(world: World) -> None:
    pid = world.spawn(world.connect(), "wait")["pid"]
    try:
        world.process.kill()
        world.process.wait(DEADLINE_S)
        world.process = world.start()
        os.kill(pid, 0)
        assert world.connect().children() == []
    finally:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (b"{nope", "not JSON"),
        (b"[]", "a JSON object"),
        ({"module": "greeter", "cwd": "/"}, "id must be"),
        ({"id": "a", "cwd": "/"}, "module must be"),
        ({"id": "a", "module": "greeter", "cwd": "/", "argv": [1]}, "argv must be"),
        ({"id": "a", "module": "greeter", "cwd": "/", "env": {"A": 1}}, "env must be"),
    ],
)
def test_a_bad_request_is_answered_and_the_template_goes_on(world: World, message: object, complaint: str) -> None:
    client = world.connect()
    assert complaint in client.ask(message, [1, 2])["error"]
    assert world.spawn(client, "0")["pid"]


def test_a_request_without_descriptors_is_refused(world: World) -> None:
    answer = world.connect().ask({"id": "a", "module": "greeter", "cwd": "/"}, [])
    assert "two file descriptors" in answer["error"]


def test_the_next_child_is_forked_before_anybody_asks_for_it(world: World) -> None:
    client = world.connect()
    world.spawn(client, "0")
    client.read()
    world.out.unlink()
    spare = world.spare()
    assert client.children() == [], "it is nobody's yet"
    assert world.spawn(client, "fds", id="pod/1", env={"COLOUR": "blue"}) == {"id": "pod/1", "pid": spare}
    assert client.read() == {"pid": spare, "exit_code": 0}
    assert world.out.read_text() == "['fds'] blue False / True\n[0, 1, 2, 3]\n", "as any other child"


def test_a_spare_that_was_killed_is_nobodys_loss(world: World) -> None:
    client = world.connect()
    world.spawn(client, "0")
    client.read()
    spare = world.spare()
    os.kill(spare, signal.SIGKILL)
    pid = world.spawn(client, "7", id="pod/1")["pid"]
    ending = client.read()
    assert ending["pid"] == pid
    assert ending["exit_code"] in (7, -signal.SIGKILL), "it may have been killed in the moment in which it was asked"
    assert world.spare() != spare


def test_a_spare_takes_the_place_of_a_template_that_was_killed(world: World) -> None:
    client = world.connect()
    child = world.spawn(client, "wait")
    spare = next(pid for pid in world.children(2) if pid != child["pid"])
    try:
        world.process.kill()
        world.process.wait(DEADLINE_S)
        client = world.connect()
        assert client.ask({"list": True}, []) == {"children": [{**child, "orphan": True}], "pid": spare}
        assert os.getsid(spare) == spare
        pid = world.spawn(client, "7", id="pod/1")["pid"]
        assert client.read() == {"pid": pid, "exit_code": 7}
        wait_for("a spare of its own", lambda: psutil.Process(spare).children())
    finally:
        os.kill(child["pid"], signal.SIGKILL)
        os.kill(spare, signal.SIGTERM)
    wait_for("it ends in order", lambda: not psutil.pid_exists(spare))


def test_a_spare_ends_with_a_template_that_ends_in_order(world: World) -> None:
    client = world.connect()
    world.spawn(client, "0")
    client.read()
    spare = psutil.Process(world.spare())
    world.process.terminate()
    wait_for("the spare is gone", lambda: not spare.is_running() or spare.status() == psutil.STATUS_ZOMBIE)


def test_a_template_that_nobody_can_reach_any_more_ends(world: World) -> None:
    former = world.process
    world.process = world.start()
    for client in world.clients:
        client.socket.close()
    assert former.wait(DEADLINE_S) == 0
