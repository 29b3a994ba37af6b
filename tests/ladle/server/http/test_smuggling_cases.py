"""The known ways to smuggle a request, each followed by one that must never reach the application on its own.

A front end and a server that disagree about where a request ends are the hole; what a case here must not do is let the
bytes that one of them takes for a body begin a request. Refused means: answered with an error and the connection closed.
"""

from __future__ import annotations

import pytest

from tests.ladle.server.http.test_smuggling import cut, seen_by_h11, seen_by_ours

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
REFUSED: dict[str, bytes] = {
    "length and chunked": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
    "a list of lengths": POST + b"Content-Length: 0, 5\r\n\r\n",
    "a length with a sign": POST + b"Content-Length: +0\r\n\r\n",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n",
    "a hexadecimal length": POST + b"Content-Length: 0x0\r\n\r\n",
    "a length with an underscore": POST + b"Content-Length: 1_0\r\n\r\n",
    "a length past 64 bits": POST + b"Content-Length: 18446744073709551617\r\n\r\n",
    "a length of a thousand digits": POST + b"Content-Length: " + b"9" * 1000 + b"\r\n\r\n",
    "an empty length": POST + b"Content-Length:\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked, then identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "gzip and chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked behind a control character": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunked in quotes": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "a space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a header without a name": POST + b": chunked\r\n\r\n",
    "a header without a colon": POST + b"Transfer-Encoding chunked\r\n\r\n",
    "a space in a name": POST + b"Content Length: 5\r\n\r\n",
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a folded header": POST + b"X: a\r\n Transfer-Encoding: chunked\r\n\r\n",
    "a folded length": POST + b"Content-Length:\r\n 5\r\n\r\n",
    "a folded first header": b"POST / HTTP/1.1\r\n Host: a\r\n\r\n",
    "a bare line feed in a header": POST + b"X: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare line feeds throughout": b"POST / HTTP/1.1\nHost: a\nContent-Length: 0\n\n",
    "a bare carriage return": POST + b"X: a\rTransfer-Encoding: chunked\r\n\r\n",
    "a null": POST + b"X: a\x00b\r\n\r\n",
    "two hosts": b"POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 0\r\n\r\n",
    "no host": b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "a chunk size with a sign": CHUNKED + b"+0\r\n\r\n",
    "a chunk size with 0x": CHUNKED + b"0x0\r\n\r\n",
    "a chunk size past 64 bits": CHUNKED + b"1" + b"0" * 16 + b"\r\n",
    "an empty chunk size": CHUNKED + b"\r\n\r\n",
    "a space in a chunk size": CHUNKED + b"1 0\r\n\r\n",
    "a chunk that ends late": CHUNKED + b"1\r\nab\r\n0\r\n\r\n",
    "a chunk size that ends in a line feed": CHUNKED + b"1\na\r\n0\r\n\r\n",
    "a last chunk that ends in a line feed": CHUNKED + b"0\n\n",
    "a chunk extension with a line feed": CHUNKED + b"1;a\nb\r\na\r\n0\r\n\r\n",
    "an unknown version": b"POST / HTTP/1.2\r\nHost: a\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "too many headers": POST + b"X: y\r\n" * 1000 + b"\r\n",
    "a chunk extension without end": CHUNKED + b"1;" + b"a" * 200_000,
    "a length as a trailer": CHUNKED + b"0\r\nContent-Length: 99\r\n\r\n",
    "a coding as a trailer": CHUNKED + b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "trailers without end": CHUNKED + b"0\r\n" + b"X: y\r\n" * 30_000,
}
TAKEN: dict[str, tuple[bytes, bytes]] = {
    "chunk extensions": (CHUNKED + b'1;a=b;c="d e"\r\nx\r\n0;last\r\n\r\n', b"x"),
    "trailers": (CHUNKED + b"1\r\nx\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n", b"x"),
    "leading zeros in a chunk size": (CHUNKED + b"0001\r\nx\r\n0\r\n\r\n", b"x"),
    "a request as a body": (POST + b"Content-Length: %d\r\n\r\n%b" % (len(SMUGGLED), SMUGGLED), SMUGGLED),
    "a request in a chunk": (CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED), SMUGGLED),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_smuggler_is_refused_and_so_is_what_follows(case: str) -> None:
    stream = REFUSED[case]
    for reads in ([stream + SMUGGLED], [stream, SMUGGLED], cut(stream + SMUGGLED, list(range(3, 60, 7)))):
        seen, written = seen_by_ours(reads)
        assert not seen
        assert written.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")), written
        assert b"connection: close" in written
        assert written.count(b"HTTP/1.1 ") == 1, "one answer, and the end"


@pytest.mark.parametrize("case", REFUSED)
def test_good_requests_before_one_are_answered(case: str) -> None:
    seen, written = seen_by_ours([SMUGGLED + SMUGGLED + REFUSED[case] + SMUGGLED])
    assert [one.target for one in seen] == [b"/smuggled"] * 2
    assert written.count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize("case", TAKEN)
def test_what_is_allowed_ends_where_h11_says(case: str) -> None:
    request, body = TAKEN[case]
    stream = request + b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
    seen, _ = seen_by_ours([stream])
    assert [(one.target, one.body) for one in seen] == [(b"/", body), (b"/next", b"")]
    assert [(one.target, one.body) for one in seen_by_h11(stream)] == [(b"/", body), (b"/next", b"")]


def test_another_host_as_a_trailer_is_dropped() -> None:
    """As RFC 9110 6.5.1 allows."""
    seen, _ = seen_by_ours([CHUNKED + b"1\r\nx\r\n0\r\nHost: evil\r\n\r\n" + SMUGGLED])
    assert [(one.target, one.body) for one in seen] == [(b"/", b"x"), (b"/smuggled", b"")]
    assert dict(seen[0].headers)[b"host"] == b"a"
