"""Endpoints count as settled when what they name answers, against real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from onebox.settled import Address, addresses_of, settled


@contextmanager
def server(status: int) -> Iterator[int]:
    """The port of a server that answers queue-proxy probes with `status`, and everything else with 400."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.headers.get("K-Network-Probe") == "queue" else 400)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None: ...

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield listening.server_address[1]
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def endpoints(port: int, *, pod: bool = True, name: str = "http") -> dict[str, Any]:
    address: dict[str, Any] = {"ip": "127.0.0.1"}
    if pod:
        address["targetRef"] = {"kind": "Pod", "name": "p"}
    return {"subsets": [{"addresses": [address], "ports": [{"name": name, "port": port}]}]}


def test_a_pod_that_says_it_is_ready_is_settled() -> None:
    with server(200) as port:
        assert settled([endpoints(port)])
        assert settled([endpoints(port, name="http2")])


def test_a_pod_that_still_loads_is_not_settled() -> None:
    with server(503) as port:
        assert not settled([endpoints(port)])


def test_a_port_that_a_stopped_pod_left_is_not_settled() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # Bound, so that nobody else gets it; nobody listens.
        port = taken.getsockname()[1]
        assert not settled([endpoints(port)])
        assert not settled([endpoints(port, pod=False)])
        assert settled([endpoints(port, name="http-usermetric")])


def test_an_activator_is_settled_once_it_listens_whatever_it_would_say() -> None:
    with server(503) as port:
        assert settled([endpoints(port, pod=False)])


def test_endpoints_without_ready_addresses_are_settled() -> None:
    assert settled([])
    assert settled([{"metadata": {}}, {"subsets": None}, {"subsets": [{"notReadyAddresses": [{"ip": "127.0.0.1"}]}]}])


def test_addresses_are_those_of_requests_only() -> None:
    assert list(addresses_of([endpoints(1), endpoints(2, name="http-autometric"), endpoints(3, pod=False)])) == [
        Address("127.0.0.1", 1, True),
        Address("127.0.0.1", 3, False),
    ]
