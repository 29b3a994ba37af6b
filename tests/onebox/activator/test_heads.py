"""Heads: what is passed on, what ends here, what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.reconcile.plan import Key
from onebox.knative.activator.carriers import dial_error
from onebox.knative.activator.forward import revision_of
from onebox.knative.activator.heads import (
    BadRequest,
    RequestHead,
    RequestLine,
    parse_request_head,
    parse_response_head,
    render_request,
    render_response,
    text_response,
)
from onebox.knative.activator.server import answer_probe
from onebox.knative.activator.targets import RevisionLimits, parse_limits
from onebox.knative.endpoints import Address, PodEndpoint, leads_to, parse_endpoints, ready_count

POD = Address("127.0.0.1", 20001)
names = st.from_regex(rb"[A-Za-z][A-Za-z0-9-]{0,20}", fullmatch=True)
values = st.from_regex(rb"[!-~]{0,30}", fullmatch=True)


def head(*headers: tuple[bytes, bytes], method: bytes = b"POST", http_1_0: bool = False) -> RequestHead:
    return parse_request_head(RequestLine(method, b"/v1/m", http_1_0), [(b"Host", b"a.example"), *headers])


def rendered(*headers: tuple[bytes, bytes]) -> list[bytes]:
    return render_request(head(*headers), POD).removesuffix(b"\r\n\r\n").split(b"\r\n")


def test_a_request_is_passed_on_as_it_came_but_for_knatives_headers() -> None:
    lines = rendered((b"Accept", b"*/*"), (b"X-A", b"1"), (b"x-a", b"2"), (b"Content-Length", b"3"))
    assert lines == [
        b"POST /v1/m HTTP/1.1",
        b"host: 127.0.0.1:20001",
        b"Accept: */*",
        b"X-A: 1",
        b"x-a: 2",
        b"Content-Length: 3",
        b"k-original-host: a.example",
        b"k-proxy-request: activator",
    ]


@pytest.mark.parametrize(
    "header",
    [
        (b"Connection", b"keep-alive, X-Hop"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Proxy-Connection", b"close"),
        (b"TE", b"trailers"),
        (b"Trailer", b"X"),
        (b"Upgrade", b"h2c"),
        (b"Expect", b"100-continue"),
        (b"KNATIVE-SERVING-REVISION", b"r"),
        (b"Knative-Serving-Namespace", b"n"),
        (b"K-Proxy-Request", b"forged"),
    ],
)
def test_what_is_for_this_hop_ends_here(header: tuple[bytes, bytes]) -> None:
    lines = rendered(header, (b"Connection", b"X-Hop"), (b"X-Hop", b"1"))
    assert not any(line.lower().startswith(header[0].lower() + b":") for line in lines if b"activator" not in line)
    assert b"X-Hop: 1" not in lines


def test_a_connection_header_cannot_take_the_length_away() -> None:
    assert b"Content-Length: 3" in rendered((b"Connection", b"content-length, host"), (b"Content-Length", b"3"))


def test_chunked_stays_chunked_and_a_websocket_stays_one() -> None:
    assert b"transfer-encoding: chunked" in rendered((b"Transfer-Encoding", b"Chunked"))
    websocket = rendered((b"Connection", b"Upgrade"), (b"Upgrade", b"WebSocket"))
    assert websocket[-2:] == [b"connection: Upgrade", b"upgrade: websocket"]


@pytest.mark.parametrize(
    "headers",
    [
        [(b"Host", b"again")],
        [(b"Transfer-Encoding", b"gzip")],
        [(b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"chunked")],
        [(b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"1")],
        [(b"Content-Length", b"1"), (b"Content-Length", b"1")],
        [(b"Content-Length", b"+1")],
    ],
)
def test_what_proxies_disagree_about_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(BadRequest) as refused:
        head(*headers)
    assert refused.value.status == 400


@given(st.lists(st.tuples(names, values), max_size=10))
def test_no_header_smuggles_a_line_or_a_length(headers: list[tuple[bytes, bytes]]) -> None:
    try:
        lines = rendered(*headers)
    except BadRequest:
        return
    lengths = [line for line in lines if line.lower().startswith((b"content-length:", b"transfer-encoding:"))]
    assert len(lengths) <= 1
    assert [line for line in lines if line.lower().startswith(b"host:")] == [b"host: 127.0.0.1:20001"]
    assert lines.count(b"k-proxy-request: activator") == 1
    assert all(line for line in lines)


def test_an_answer_is_passed_on_and_framed_for_the_client() -> None:
    answer = parse_response_head(
        200, b"Fine", [(b"Server", b"x"), (b"Transfer-Encoding", b"chunked"), (b"Connection", b"close")]
    )
    assert render_response(answer, b"GET", rechunked=True, connection=b"") == (
        b"HTTP/1.1 200 Fine\r\nServer: x\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    assert render_response(answer, b"HEAD", rechunked=True, connection=b"close") == (
        b"HTTP/1.1 200 Fine\r\nServer: x\r\nconnection: close\r\n\r\n"
    )
    sized = parse_response_head(200, b"OK", [(b"Content-Length", b"7")])
    assert (sized.content_length, sized.chunked, sized.has_body(b"GET"), sized.has_body(b"HEAD")) == (
        7,
        False,
        True,
        False,
    )
    assert not parse_response_head(204, b"", []).has_body(b"GET")


def test_answers_of_our_own_are_plain_text() -> None:
    answer = text_response(503, b"full\n", ((b"retry-after", b"1"),))
    assert (answer.reason, dict(answer.headers)[b"content-type"]) == (
        b"Service Unavailable",
        b"text/plain; charset=utf-8",
    )
    assert dict(text_response(200, b"").headers) == {b"content-length": b"0"}


@pytest.mark.parametrize(
    ("agent", "probe", "hash_", "unhealthy", "reply"),
    [
        ("kube-probe/1.32", "", "", "", (200, "")),
        ("kube-probe/1.32", "activator", "", "shutting down", (500, "shutting down\n")),
        ("Knative-Ingress-Probe", "probe", "h", "", (200, "")),
        ("", "probe", "", "", (400, 'a probe request must contain a non-empty "K-Network-Hash" header\n')),
        ("", "activator", "", "", (200, "activator")),
        ("", "queue", "", "", (400, 'unexpected probe header value: "queue"\n')),
        ("curl", "", "", "", None),
    ],
)
def test_probes_of_the_activator(
    agent: str, probe: str, hash_: str, unhealthy: str, reply: tuple[int, str] | None
) -> None:
    asked = RequestHead(line=RequestLine(b"GET", b"/", False), user_agent=agent, probe=probe, probe_hash=hash_)
    answer = answer_probe(asked, unhealthy=unhealthy)
    assert (None if answer is None else answer[:2]) == reply


@pytest.mark.parametrize(
    ("revision", "namespace", "host", "key"),
    [
        ("r", "n", "whatever", Key("n", "r")),
        ("r", "", "x.y.svc.cluster.local", Key("y", "x")),
        ("", "", "x.y.svc.cluster.local:80", Key("y", "x")),
        ("", "", "x.y.svc", None),
        ("", "", "x.y.svc.example.com", None),
        ("", "", "", None),
    ],
)
def test_the_revision_is_found_in_the_headers_or_the_host(
    revision: str, namespace: str, host: str, key: Key | None
) -> None:
    line = RequestLine(b"GET", b"/", False)
    assert revision_of(RequestHead(line=line, revision=revision, namespace=namespace, host=host)) == key


def test_a_failed_connection_is_told_in_gos_words() -> None:
    assert (
        dial_error(POD, ConnectionRefusedError(111, "x")) == "dial tcp 127.0.0.1:20001: connect: connection refused\n"
    )
    assert dial_error(POD, TimeoutError()) == "dial tcp 127.0.0.1:20001: i/o timeout\n"


def test_a_revisions_limits_are_read_from_its_spec() -> None:
    assert parse_limits({}) == RevisionLimits()
    spec = {
        "containerConcurrency": 4,
        "timeoutSeconds": 30,
        "responseStartTimeoutSeconds": 5,
        "idleTimeoutSeconds": 6,
        "containers": [{"readinessProbe": {"exec": {}}}],
    }
    assert parse_limits({"spec": spec}) == RevisionLimits(
        container_concurrency=4, timeout_s=30, response_start_s=5, idle_s=6, trusts_probes=False
    )


def test_endpoints_are_read_pod_by_pod() -> None:
    def subset(key: str, name: str, **ports: int) -> dict[str, object]:
        return {
            key: [{"ip": "127.0.0.1", "targetRef": {"name": name}}],
            "ports": [{"name": port.replace("_", "-"), "port": number} for port, number in ports.items()],
        }

    both = {"subsets": [subset("addresses", "a", http=1, http_autometric=2), subset("notReadyAddresses", "b", http2=3)]}
    ready, other = parse_endpoints(both)
    assert (ready.data(), ready.stats(), ready.ready) == (Address("127.0.0.1", 1), Address("127.0.0.1", 2), True)
    assert (other.data(), other.stats(), other.ready) == (Address("127.0.0.1", 3), None, False)
    assert isinstance(other, PodEndpoint)
    assert (ready_count(both), ready_count(None), ready_count({})) == (1, 0, 0)
    assert not leads_to(both, Address("127.0.0.1", 1))
    assert leads_to({"subsets": [subset("addresses", "", http=8012)]}, Address("127.0.0.1", 8012))
    assert not leads_to(None, Address("127.0.0.1", 8012))
