"""The bytes before a body, and what a target's path is."""

from __future__ import annotations

import pytest

from ladle.server.http.messages import Request, Response, path_of, render_head

DATE = b"date: Sat, 21 Nov 2026 08:00:00 GMT\r\n"
PLAIN = b"content-type: application/json\r\n" + DATE


@pytest.mark.parametrize(
    ("response", "length", "keep_alive", "version", "head"),
    [
        (Response(200), 5, True, "1.1", b"HTTP/1.1 200 OK\r\n" + PLAIN + b"content-length: 5\r\n"),
        (Response(200), 0, True, "1.1", b"HTTP/1.1 200 OK\r\n" + PLAIN + b"content-length: 0\r\n"),
        (
            Response(200, headers=((b"a", b"b"),)),
            *(5, True, "1.1"),
            b"HTTP/1.1 200 OK\r\n" + PLAIN + b"a: b\r\ncontent-length: 5\r\n",
        ),
        (
            Response(200),
            *(5, False, "1.1"),
            b"HTTP/1.1 200 OK\r\n" + PLAIN + b"content-length: 5\r\nconnection: close\r\n",
        ),
        (
            Response(200),
            *(5, True, "1.0"),
            b"HTTP/1.1 200 OK\r\n" + PLAIN + b"content-length: 5\r\nconnection: keep-alive\r\n",
        ),
        (Response(200), None, True, "1.1", b"HTTP/1.1 200 OK\r\n" + PLAIN + b"transfer-encoding: chunked\r\n"),
        (Response(404), 5, True, "1.1", b"HTTP/1.1 404 Not Found\r\n" + PLAIN + b"content-length: 5\r\n"),
        (Response(204, content_type=b""), 0, True, "1.1", b"HTTP/1.1 204 No Content\r\n" + DATE),
    ],
)
def test_heads(response: Response, length: int | None, keep_alive: bool, version: str, head: bytes) -> None:
    assert render_head(response, length, keep_alive=keep_alive, version=version, date=DATE) == head + b"\r\n"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/v2/models/a/infer?x=/1", "/v2/models/a/infer"),
        (b"http://host:80/v2?x", "/v2"),
        (b"/a%2fb%20c", "/a/b c"),
        (b"/%ff", "/\ufffd"),
        (b"*", "*"),
    ],
)
def test_the_path_of_a_target(target: bytes, path: str) -> None:
    assert [Request("GET", target, []).path, path_of(target)] == [path, path]
