"""Requests through the gateway: one, many at once, and a load in the background."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

REQUEST_TIMEOUT_S = 90
"""What waits for a pod on a busy machine has to be answered all the same."""


@dataclass(frozen=True)
class Answer:
    status: int
    body: str


def ask(
    url: str,
    path: str = "/",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    timeout_s: float = REQUEST_TIMEOUT_S,
) -> Answer:
    """One request on a connection of its own; TimeoutError where no answer came in time."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=timeout_s)
    try:
        connection.request(method, path, headers={"Host": address.netloc, **(headers or {})})
        response = connection.getresponse()
        return Answer(response.status, response.read().decode())
    finally:
        connection.close()


def ask_at_once(url: str, count: int, path: str = "/", *, clients: int = 50) -> list[Answer]:
    """`count` requests, as many at once as there are clients."""
    with ThreadPoolExecutor(clients) as threads:
        return list(threads.map(lambda _: ask(url, path), range(count)))


@dataclass
class Load:
    """What became of a load's requests so far: status codes, or the name of the error."""

    period_s: float
    outcomes: Counter[str] = field(default_factory=Counter)
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def failures(self) -> dict[str, int]:
        return {outcome: count for outcome, count in self.outcomes.items() if outcome != "200"}

    @property
    def answered(self) -> int:
        return self.outcomes["200"]

    def client(self, url: str, path: str) -> None:
        while not self.stop.is_set():
            began_s = time.monotonic()
            try:
                outcome = str(ask(url, path).status)
            except (OSError, http.client.HTTPException) as error:
                outcome = type(error).__name__
            self.outcomes[outcome] += 1
            self.stop.wait(self.period_s - (time.monotonic() - began_s))


@contextmanager
def load(url: str, path: str = "/", *, clients: int, period_s: float = 0.0) -> Iterator[Load]:
    """As many requests at once as there are clients, until the block ends.

    A client starts one each `period_s` seconds at most and never makes up for lost time, so that a busy machine makes the
    load lighter, and never heavier.
    """
    running = Load(period_s)
    threads = [threading.Thread(target=running.client, args=(url, path)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield running
    finally:
        running.stop.set()
        for thread in threads:
            thread.join()
