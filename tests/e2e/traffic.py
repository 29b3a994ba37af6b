"""Requests through the gateway in the background, counted by what became of them."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import urlsplit

from tests.e2e.manifests import INSTANCES

REQUEST_TIMEOUT_S = 90
"""What waits for a pod on a busy machine has to be answered all the same."""

Send: TypeAlias = Callable[[], str]
"""One request; returns its status code, or a word for an answer that is not what it should be."""


@dataclass
class Traffic:
    """What became of the requests so far: what was returned of each, or the name of the error."""

    period_s: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def failures(self) -> dict[str, int]:
        return {outcome: count for outcome, count in self.outcomes.items() if outcome != "200"}

    @property
    def answered(self) -> int:
        return self.outcomes["200"]

    def repeat(self, send: Send) -> None:
        """Sends until it is told to stop."""
        while not self.stop.is_set():
            began_s = time.monotonic()
            try:
                outcome = send()
            except (OSError, http.client.HTTPException) as error:
                outcome = type(error).__name__
            self.outcomes[outcome] += 1
            self.stop.wait(self.period_s - (time.monotonic() - began_s))


@contextmanager
def background(clients: Sequence[Send], *, period_s: float = 0.0) -> Iterator[Traffic]:
    """Every client sends, one request after the other, until the block ends.

    A client starts one each `period_s` seconds at most and never makes up for lost time, so that a busy machine makes the
    load lighter, and never heavier.
    """
    running = Traffic(period_s)
    threads = [threading.Thread(target=running.repeat, args=(send,)) for send in clients]
    for thread in threads:
        thread.start()
    try:
        yield running
    finally:
        running.stop.set()
        for thread in threads:
            thread.join()


@contextmanager
def traffic(url: str, name: str, *, connections: int) -> Iterator[Traffic]:
    """Sends the iris request over `connections` keep-alive connections until the block ends."""
    clients = [IrisClient(url, name) for _ in range(connections)]
    try:
        with background([client.send for client in clients]) as running:
            yield running
    finally:
        for client in clients:
            client.close()


class IrisClient:
    """One keep-alive connection, opened again where it broke."""

    def __init__(self, url: str, name: str) -> None:
        address = urlsplit(url)
        self._path = f"/v1/models/{name}:predict"
        self._headers = {"Host": address.netloc, "Content-Type": "application/json"}
        self._connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=REQUEST_TIMEOUT_S)

    def send(self) -> str:
        """The status; `empty` for a 200 without predictions."""
        try:
            self._connection.request("POST", self._path, json.dumps(INSTANCES), self._headers)
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise
        return str(response.status) if response.status != 200 or b"predictions" in body else "empty"

    def close(self) -> None:
        self._connection.close()
