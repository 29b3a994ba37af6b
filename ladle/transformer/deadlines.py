"""Deadlines on their way: from whoever asks a transformer to whoever the transformer asks.

gRPC has them in its protocol. HTTP has no standard; Envoy tells what it asks how long it will wait, in a header, and so do we.
"""

from __future__ import annotations

from collections.abc import Mapping

from ladle.protocol.messages import InferRequest

HEADER = "x-envoy-expected-rq-timeout-ms"
_MS_PER_S = 1000.0


def decide_deadline(request: InferRequest, *, now_s: float, timeout_s: float) -> float:
    """When, on the monotonic clock, nobody waits for the answer any more: the client's deadline, at most `timeout_s` away."""
    return now_s + min([timeout_s, *_given(request.headers, request.time_left_s)])


def _given(headers: Mapping[str, str], time_left_s: float | None) -> list[float]:
    found = [] if time_left_s is None else [max(0.0, time_left_s)]
    text = headers.get(HEADER, "")
    if text.isdigit() and int(text) > 0:  # 0 is Envoy's word for no limit.
        found.append(int(text) / _MS_PER_S)
    return found


def header_value(left_s: float) -> str:
    """What the header says for so much time."""
    return str(max(1, int(left_s * _MS_PER_S)))
