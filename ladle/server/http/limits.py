"""How much, and how slowly, a client may send."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Bounds of one server; a client past one of them gets a 4xx and its connection is closed."""

    header_bytes_max: int = 64 * 1024
    """Request line and headers together, or trailers: 431 beyond. Envoy's default is 60 KiB."""
    headers_max: int = 200
    """Number of headers: 431 beyond. Envoy's default is 100; a proxy chain with tracing adds some."""
    target_bytes_max: int = 16 * 1024
    """Length of the request target: 414 beyond. A guess; the longest model path is under 300."""
    body_bytes_max: int = 1024 * 1024 * 1024
    """Length of a body: 413 beyond. KServe has no limit; a server without one can be made to run out of memory."""
    connections_max: int = 10_000
    """Open connections; further ones are closed at once. A guess: at 20 kB each they hold 200 MB."""
    header_timeout_s: float = 30.0
    """From a request's first byte to the end of its headers: 408 beyond. A guess; nginx allows 60 s."""
    body_stall_s: float = 60.0
    """Longest silence in the middle of a body: 408 beyond. nginx's client_body_timeout."""
    body_bytes_per_s_min: int = 256
    """Slowest upload, measured once a body has taken `body_stall_s`: one byte a minute would hold a connection for ever.
    A guess."""
    write_stall_s: float = 60.0
    """Longest time in which a client takes nothing of its answer; the connection is dropped then. nginx's send_timeout."""
    keep_alive_s: float = 65.0
    """Silence between two requests: closed beyond. KServe's --timeout-keep-alive."""
    linger_s: float = 2.0
    """After a refusal, how long what the client still sends is read and dropped, so that it sees the answer rather than
    a reset. nginx's lingering_timeout is 5 s; ours serves fewer strangers."""

    def too_slow(self, body_bytes: int, *, taken_s: float, silence_s: float) -> bool:
        """Whether a body of which this much has come in `taken_s` is waited for no longer."""
        late = taken_s > self.body_stall_s and body_bytes < taken_s * self.body_bytes_per_s_min
        return late or silence_s > self.body_stall_s
