"""`--workers N` with real processes: one server to clients, probes, the autoscaler and whoever manages models."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from ladle.protocol.grpc.schema import message_class
from tests.ladle.server.workers.fleet import DEADLINE_S, FleetProcess
from tests.waiting import wait_for

Start = Callable[..., FleetProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    fleets: list[FleetProcess] = []

    def begin(workers: int, **env: str) -> FleetProcess:
        fleets.append(FleetProcess(tmp_path, workers, **env))
        return fleets[-1]

    yield begin
    for fleet in fleets:
        fleet.close()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_workers_share_the_ports_and_count_as_one(start: Start) -> None:
    fleet = start(3)
    fleet.ready()
    assert fleet.marks("loads") == 6, "two models in each of three workers, loaded before the first 'ready'"
    asked = 30
    pids = {fleet.ask() for _ in range(asked)} | fleet.pids(2)
    assert fleet.process.pid not in pids
    total = fleet.metric("ladle_requests_total")
    assert total >= asked
    assert fleet.metric("request_predict_seconds_count") == total
    assert fleet.metric("process_resident_memory_bytes") > 0
    assert fleet.stop() == 0
    wait_for("no worker is left", lambda: not any(map(alive, pids)))


def test_grpc_is_served_by_all(start: Start) -> None:
    fleet = start(2)
    fleet.ready()
    request, response = (message_class(f"inference.ServerReady{end}") for end in ("Request", "Response"))
    for _ in range(8):  # Each on a connection of its own, hence on whichever worker.
        with grpc.insecure_channel(f"127.0.0.1:{fleet.grpc_port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
            call = channel.unary_unary(
                "/inference.GRPCInferenceService/ServerReady", request.SerializeToString, response.FromString
            )
            assert call(request(), timeout=DEADLINE_S).ready


def test_a_worker_that_dies_is_replaced_and_the_others_serve_on(start: Start) -> None:
    fleet = start(2)
    fleet.ready()
    before = fleet.pids(2)
    counted = fleet.metric("ladle_requests_total")
    with pytest.raises((http.client.HTTPException, OSError)):
        fleet.fetch("/v1/models/m:predict", b'{"instances":["die"]}')
    # A process that is dying may still be given a connection, which is lost with it.
    wait_for("the other one answers", lambda: fleet.probe() == 200)
    wait_for("the dead one is replaced", lambda: len(fleet.pids(2) - before) == 1, timeout_s=DEADLINE_S)
    assert fleet.probe() == 200
    wait_for("nothing that was counted is lost", lambda: fleet.metric("ladle_requests_total") > counted)
    assert '"event": "worker died"' in fleet.log.read_text()
    assert fleet.stop() == 0


def test_a_replacement_that_cannot_load_is_tried_again(start: Start) -> None:
    fleet = start(2)
    fleet.ready()
    first = fleet.pids(2)
    fleet.say("broken", "disk full")
    os.kill(min(first), signal.SIGKILL)
    wait_for("two attempts", lambda: fleet.log.read_text().count('"event": "worker died"') >= 3)
    assert fleet.probe() == 200
    assert fleet.ask() == max(first)
    (fleet.directory / "broken").unlink()
    assert len(fleet.pids(2) & first) == 1
    assert fleet.stop() == 0


def test_a_model_that_cannot_be_loaded_ends_the_server_with_the_reason(start: Start, tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("weights are missing")
    fleet = start(2)
    assert fleet.process.wait(DEADLINE_S) == 1
    assert "ValueError: weights are missing" in (tmp_path / "last-words").read_text()


def test_a_port_that_is_taken_is_an_error_although_ports_are_shared(start: Start, tmp_path: Path) -> None:
    first = start(2)
    first.ready()
    (tmp_path / "second").mkdir()
    second = FleetProcess(tmp_path / "second", 2, LADLE_HTTP_PORT=str(first.port))
    assert second.process.wait(DEADLINE_S) == 1
    assert "cannot listen on 127.0.0.1" in (tmp_path / "second" / "last-words").read_text()


def test_models_are_loaded_and_unloaded_in_all(start: Start) -> None:
    fleet = start(3)
    fleet.ready()
    status, body = fleet.fetch("/v2/repository/models/n/unload", b"")
    assert (status, json.loads(body)) == (200, {"name": "n", "unload": True})
    assert {fleet.status("/v2/models/n/ready") for _ in range(20)} == {503}
    assert fleet.probe() == 200, "nobody wants it any more"
    os.kill(fleet.ask(), signal.SIGKILL)
    wait_for("a replacement without it", lambda: fleet.marks("loads") == 7)
    fleet.pids(3)
    assert {fleet.status("/v2/models/n/ready") for _ in range(20)} == {503}
    assert fleet.status("/v2/repository/models/n/load", b"") == 200
    assert {fleet.status("/v2/models/n/ready") for _ in range(20)} == {200}
    fleet.say("broken", "disk full")
    status, body = fleet.fetch("/v2/repository/models/n/load", b"")
    assert (status, "ValueError: disk full" in body) == (503, True)
    assert {fleet.probe() for _ in range(10)} == {503}, "no worker is ready while a model of it is not"
    assert fleet.fetch("/v2/repository/models/none/unload", b"")[0] == 404


@pytest.mark.parametrize(("limit", "running", "workers"), [(3, 3, 2), (1, 1, 1)])
def test_the_limit_of_concurrency_is_divided_exactly(start: Start, limit: int, running: int, workers: int) -> None:
    """However the kernel spreads clients, no more than the limit run; and with enough clients, that many do."""
    fleet = start(2, CONTAINER_CONCURRENCY=str(limit))
    fleet.ready()
    pids: list[int] = []
    threads: list[threading.Thread] = []

    def send() -> None:
        threads.append(threading.Thread(target=lambda: pids.append(fleet.ask("wait"))))
        threads[-1].start()

    def all_that_may_run_do() -> bool:
        # Only once all have arrived: more than a queue holds would be refused.
        if fleet.stat()["average_concurrent_requests"] < len(threads) - 0.5:
            return False
        # The kernel chooses the worker of each client: one more, until every worker has enough.
        if fleet.marks("inside") < running:
            send()
        return fleet.marks("inside") == running

    for _ in range(9):
        send()
    wait_for("all that may run do, and the autoscaler sees all", all_that_may_run_do, timeout_s=DEADLINE_S)
    clients = len(threads)
    assert fleet.stat()["pod"] == "pod-1"
    assert fleet.marks("inside") == running
    fleet.say("answer")
    for thread in threads:
        thread.join(DEADLINE_S)
    assert (len(pids), len(set(pids))) == (clients, workers)
    wait_for("nobody is inside any more", lambda: fleet.stat()["average_concurrent_requests"] < 1)


def test_sigterm_lets_every_worker_finish(start: Start) -> None:
    fleet = start(2)
    fleet.ready()
    body = b'{"instances":["wait"]}'
    request = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    clients = [socket.create_connection(("127.0.0.1", fleet.port), DEADLINE_S) for _ in range(8)]
    for client in clients:
        client.sendall(request)
    wait_for("all are inside", lambda: fleet.marks("inside") == len(clients))
    fleet.process.send_signal(signal.SIGTERM)
    wait_for("no new connections", lambda: not fleet.listens())
    fleet.say("answer")
    for client in clients:
        with client, client.makefile("rb") as answer:
            assert answer.read().startswith(b"HTTP/1.1 200 OK")
    assert fleet.process.wait(DEADLINE_S) == 0


def test_the_drain_reaches_all(start: Start) -> None:
    fleet = start(2)
    fleet.ready()
    fleet.pids(2)
    with subprocess.Popen(["curl", "-s", f"http://127.0.0.1:{fleet.admin_port}/wait-for-drain"]) as drain:
        wait_for("probes fail", lambda: {fleet.probe() for _ in range(10)} == {503})
        assert drain.wait(DEADLINE_S) == 0
    assert fleet.stop() == 0


def test_workers_end_when_their_parent_is_killed(start: Start) -> None:
    fleet = start(2)
    fleet.ready()
    pids = fleet.pids(2)
    fleet.process.kill()
    fleet.process.wait(DEADLINE_S)
    wait_for("they are gone", lambda: not any(map(alive, pids)))
