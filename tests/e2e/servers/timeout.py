"""timeout: waits `initialTimeout` ms before its headers, and `timeout` ms more before its body."""

from __future__ import annotations

from tests.e2e.servers.exchange import Exchange, pause, serve

answering: list[int] = []
"""One entry for each request that is being answered."""


class Timeout(Exchange):
    def respond(self) -> None:
        if self.route == "/answering":
            self.answer(200, str(len(answering)))
            return
        answering.append(1)
        try:
            self._respond_slowly()
        finally:
            answering.pop()

    def _respond_slowly(self) -> None:
        pause(self.number("initialTimeout") / 1000)
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        rest_ms = self.number("timeout")
        pause(rest_ms / 1000)
        text = f"Slept for {rest_ms:.0f} milliseconds".encode()
        self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(text), text))


if __name__ == "__main__":
    serve(Timeout)
