"""A server as a process: it listens once it has loaded, ends gracefully, and says why it cannot serve."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ladle.server.process import DEADLINE_S, ServerProcess
from tests.waiting import wait_for

SERVER = """
import os, sys, threading
from pathlib import Path
from ladle import Model, serve
from ladle.server.options import ServerOptions

pause = threading.Event()

class Patient(Model):
    def load(self):
        while not Path("loaded").exists():
            pause.wait(0.01)
        if Path("loaded").read_text():
            raise ValueError(Path("loaded").read_text())

    def predict(self, request):
        Path("inside").touch()
        while not Path("answer").exists():
            pause.wait(0.01)
        return request.instances

sys.exit(serve(Patient("patient"), options=ServerOptions.parse(sys.argv[1:], os.environ)))
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path, SERVER, "--http_port=1", "--some-unknown-flag")
    wait_for("it has begun", lambda: server.status("/metrics", port=server.admin_port) == 200)
    yield server
    server.close()


def test_nobody_can_connect_until_the_model_is_loaded(server: ServerProcess) -> None:
    assert not server.listens()
    assert server.fetch("/metrics", port=server.admin_port)[0] == 200, "statistics are told meanwhile"
    server.say("loaded")
    wait_for("it listens", server.listens)
    assert (server.probe(), server.status("/v2/models/patient/ready")) == (200, 200), "from the first connection on"


def test_a_server_that_it_needs_listens_first(tmp_path: Path) -> None:
    with socket.socket() as awaited:
        awaited.bind(("127.0.0.1", 0))
        server = ServerProcess(tmp_path, SERVER, LADLE_AWAITED_PORT=str(awaited.getsockname()[1]))
        try:
            server.say("loaded")
            wait_for("it waits", lambda: "waiting for the predictor" in server.log.read_text())
            assert not server.listens()
            awaited.listen()
            wait_for("it listens", server.listens)
        finally:
            server.close()


def test_a_model_that_cannot_be_loaded_ends_it_with_the_reason(server: ServerProcess) -> None:
    server.say("loaded", "weights are missing")
    assert server.process.wait(DEADLINE_S) == 1
    assert "ValueError: weights are missing" in (server.directory / "last-words").read_text()
    assert "weights are missing" in server.log.read_text()


def test_sigterm_lets_requests_finish_and_refuses_new_ones(server: ServerProcess) -> None:
    server.say("loaded")
    wait_for("it is ready", lambda: server.probe() == 200)
    body = b'{"instances":[1]}'
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"POST /v1/models/patient:predict HTTP/1.1\r\nHost: a\r\nContent-Length: 17\r\n\r\n" + body)
        wait_for("it is inside", lambda: (server.directory / "inside").exists())
        server.process.send_signal(signal.SIGTERM)
        wait_for("it takes no more connections", lambda: not server.listens())
        server.say("answer")
        client.settimeout(DEADLINE_S)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" in answer
    assert answer.endswith(b'{"predictions":[1]}')
    assert server.process.wait(DEADLINE_S) == 0


def test_probes_fail_while_it_drains_and_requests_do_not(server: ServerProcess) -> None:
    server.say("loaded")
    wait_for("it is ready", lambda: server.probe() == 200)
    with subprocess.Popen(["curl", "-s", f"http://127.0.0.1:{server.admin_port}/wait-for-drain"]) as drain:
        wait_for("probes fail", lambda: server.probe() == 503)
        assert server.status("/v2/health/live") == 200
        assert drain.wait(DEADLINE_S) == 0
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(DEADLINE_S) == 0


def test_sigterm_ends_it_even_while_it_loads(server: ServerProcess) -> None:
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(DEADLINE_S) == 0


def test_the_admin_port_tells_the_last_second(server: ServerProcess) -> None:
    server.say("loaded")
    server.say("answer")
    wait_for("it is ready", lambda: server.probe() == 200)
    server.fetch("/v1/models/patient:predict", b'{"instances":[1]}')

    def counted() -> dict[str, float]:
        stat: dict[str, float] = json.loads(server.fetch("/metrics", port=server.admin_port)[1])
        return stat if stat["request_count"] else {}

    stat = wait_for("a whole second with a request in it", counted)
    assert set(stat) == {
        "pod",
        "average_concurrent_requests",
        "average_proxied_concurrent_requests",
        "request_count",
        "proxied_request_count",
        "process_uptime_s",
    }
    assert stat["pod"] == "pod-1"
    assert 0 < stat["average_concurrent_requests"] < 1
    status, body = server.fetch("/metrics", port=server.admin_port, Accept="application/protobuf")
    assert (status, body[:7]) == (200, "\n\x05pod-1")


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        env = {**os.environ, "LADLE_HOST": "127.0.0.1", "LADLE_HTTP_PORT": port}
        command = [sys.executable, "server.py"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, cwd=tmp_path, env=env)
    assert ended.returncode == 1
    assert "cannot listen on 127.0.0.1" in ended.stderr
    assert port in ended.stderr
