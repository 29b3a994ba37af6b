"""Requests through the gateway: one, many at once, and a load in the background."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.e2e.traffic import REQUEST_TIMEOUT_S, Traffic, background


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


@contextmanager
def load(url: str, path: str = "/", *, clients: int, period_s: float = 0.0) -> Iterator[Traffic]:
    """As many requests at once as there are clients, each on a connection of its own, until the block ends."""
    with background([lambda: str(ask(url, path).status)] * clients, period_s=period_s) as running:
        yield running
