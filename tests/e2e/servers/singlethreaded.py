"""singlethreaded: a 500 to a request that meets another one."""

from __future__ import annotations

import threading

from tests.e2e.servers.exchange import Exchange, pause, serve

BUSY_S = 0.02
alone = threading.Lock()


class SingleThreaded(Exchange):
    def respond(self) -> None:
        if not alone.acquire(blocking=False):
            self.answer(500, "another request is being answered")
            return
        try:
            pause(BUSY_S)
        finally:
            alone.release()
        self.answer(200, "alone")


if __name__ == "__main__":
    serve(SingleThreaded)
