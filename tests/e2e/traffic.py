"""Requests through the gateway in the background, counted by what became of them."""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from tests.e2e.manifests import INSTANCES

REQUEST_TIMEOUT_S = 60


class Traffic:
    """What became of the requests so far: status codes, or the name of the error."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.stop = threading.Event()

    @property
    def failures(self) -> dict[str, int]:
        return {outcome: count for outcome, count in self.outcomes.items() if outcome != "200"}

    def worker(self, url: str, name: str) -> None:
        address = urlsplit(url)
        body, headers = json.dumps(INSTANCES), {"Host": address.netloc, "Content-Type": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=REQUEST_TIMEOUT_S)
        while not self.stop.is_set():
            try:
                connection.request("POST", f"/v1/models/{name}:predict", body, headers)
                response = connection.getresponse()
                answer = response.read()
                self.outcomes[
                    str(response.status) if response.status != 200 or b"predictions" in answer else "empty"
                ] += 1
            except (OSError, http.client.HTTPException) as error:
                self.outcomes[type(error).__name__] += 1
                connection.close()
        connection.close()


@contextmanager
def traffic(url: str, name: str, *, connections: int) -> Iterator[Traffic]:
    """Sends the iris request over `connections` keep-alive connections until the block ends."""
    running = Traffic()
    threads = [threading.Thread(target=running.worker, args=(url, name)) for _ in range(connections)]
    for thread in threads:
        thread.start()
    try:
        yield running
    finally:
        running.stop.set()
        for thread in threads:
            thread.join()
