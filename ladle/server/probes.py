"""Which requests are probes, and what they get: Knative's contract by header (spec/knative.md 3.5, with its recordings).

A health check is told by its User-Agent: the kubelet's or the activator's. It must then name the queue-proxy in
K-Network-Probe. A probe of the ingress carries `K-Network-Probe: probe` and a hash, and wants it back. Whatever else
looks like a probe is ordinary traffic.
"""

from __future__ import annotations

from ladle.server.http.messages import TEXT, Request, Response, text

_HEALTH_CHECK_AGENTS = (b"kube-probe/", b"Knative-Activator-Probe")
_PROBE_HEADER = b"k-network-probe"
_HASH_HEADER = b"k-network-hash"


def is_health_check(request: Request) -> bool:
    """Whether the kubelet or the activator asks for readiness."""
    return request.headers.get(b"user-agent", b"").startswith(_HEALTH_CHECK_AGENTS)


def is_ingress_probe(request: Request) -> bool:
    """Whether the ingress asks if this configuration is in place."""
    return request.headers.get(_PROBE_HEADER) == b"probe"


def ingress_answer(request: Request, *, draining: bool) -> Response:
    """The hash back; 503 while draining, so that the ingress sends its traffic elsewhere."""
    hash_value = request.headers.get(_HASH_HEADER)
    if not hash_value:
        return text(400, 'a probe request must contain a non-empty "K-Network-Hash" header')
    if draining:
        return text(503, "shutting down")
    return Response(200, content_type=b"", headers=((_HASH_HEADER, hash_value),))


def health_refusal(request: Request, *, draining: bool) -> Response | None:
    """What a health check gets without any look at the container; None where the container has to be asked."""
    if draining:
        return text(503, "shutting down")
    value = request.header(_PROBE_HEADER)
    if value != "queue":
        return text(400, f"unexpected probe header value: {value}")
    return None


def health_answer(ready: bool) -> Response:
    """The word `queue`, or an empty 503."""
    return Response(200, b"queue", content_type=TEXT) if ready else Response(503, content_type=b"")
