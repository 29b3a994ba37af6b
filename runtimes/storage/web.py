"""`http://` and `https://`: one file, listed by asking for it and read by Range.

A resumed part is only taken if the server says that the file has not changed since (If-Range). Headers for a host come from
the variable `<host>-headers` (JSON), as KServe's secrets set it.
"""

from __future__ import annotations

import http.client
import json
import threading
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from ladle.errors import StorageUnavailable
from runtimes.storage.objects import Changed, RemoteFile, Source
from runtimes.storage.uri import AccessDenied, BadSetting, BadUri, NoSuchSource, StorageUri, WrongContent
from runtimes.storage.web_request import CarefulRedirects, basic_authorization

TIMEOUT_S = 30.0
"""Of the connection and of each read; KServe's timeout."""
_CHUNK_BYTES = 128 * 1024
"""Read at once, and what a connection that breaks loses at most: a line that breaks every megabyte must get on."""
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Codes that may be different in a moment."""
_CHANGED = frozenset({412, 416})
_URL_SAFE = "!#$%&'()*+,/:;=?@[]~"
"""What stays as it is in a path or query (RFC 3986, reserved characters and the percent sign)."""
_HINTS = {
    401: "it asks for credentials: put them into an https secret of the service account",
    403: "these credentials may not read it: check the https secret of the service account, or the signature in the URI",
    404: "it does not exist there: check the path in storageUri",
    410: "it is gone for good",
}
_BROKEN = (urllib.error.URLError, http.client.HTTPException, OSError)


def open_source(uri: StorageUri, env: Mapping[str, str]) -> Source:
    """The file at the URI. BadUri where it names none."""
    name = _file_name(uri.location)
    url, credentials = basic_authorization(_sendable(uri.location))
    return WebSource(url, name, {**credentials, **_headers_for(uri.location, env)})


class WebSource:
    """One file. The answer to the question what it is goes on to be its first bytes."""

    def __init__(self, url: str, name: str, headers: Mapping[str, str]) -> None:
        self._url = url
        self._name = name
        self._headers = {"Accept-Encoding": "identity", "User-Agent": "ladle-storage", **headers}
        self._opener = urllib.request.build_opener(CarefulRedirects(headers))
        self._lock = threading.Lock()
        self._opened: Any = None
        """The answer that `list` got, until somebody reads it."""

    def list(self) -> Sequence[RemoteFile]:
        self.close()
        response = self._ask({})
        try:
            file = self._describe(response)
        except BaseException:  # Whatever it was, nobody will read this answer.
            response.close()
            raise
        self._opened = response
        return [file]

    def read(self, file: RemoteFile, offset: int, length: int | None) -> Iterator[bytes]:
        response = self._answer(file, offset, length)
        try:
            # A server without ranges sends everything, from the start.
            yield from _cut(_decoded(response), 0 if response.status == 206 else offset, length)
        except http.client.IncompleteRead as error:
            raise StorageUnavailable("the server closed the connection in the middle of the file") from error
        except (http.client.HTTPException, zlib.error) as error:
            raise StorageUnavailable(str(error) or type(error).__name__) from error
        finally:
            response.close()

    def close(self) -> None:
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def _answer(self, file: RemoteFile, offset: int, length: int | None) -> Any:
        if offset == 0:
            with self._lock:
                opened, self._opened = self._opened, None
            if opened is not None:
                return opened
        to_the_end = length is None or offset + length == file.size_bytes
        wanted = {}
        if file.version is not None and (offset or not to_the_end):
            last = "" if to_the_end else offset + (length or 0) - 1
            wanted = {"Range": f"bytes={offset}-{last}", "If-Range": file.version}
        response = self._ask(wanted)
        try:
            _check_same(response, file, offset)
        except BaseException:  # Whatever it was, nobody will read this answer.
            response.close()
            raise
        return response

    def _ask(self, headers: Mapping[str, str]) -> Any:
        request = urllib.request.Request(self._url, headers={**self._headers, **headers})  # noqa: S310  # http(s) only.
        try:
            return self._opener.open(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            error.close()
            raise _failure(error.code, str(error.reason)) from None
        except _BROKEN as error:
            raise StorageUnavailable(str(getattr(error, "reason", None) or error) or type(error).__name__) from error

    def _describe(self, response: Any) -> RemoteFile:
        content_type = response.headers.get_content_type() if "Content-Type" in response.headers else ""
        if content_type == "text/html" and not self._name.endswith((".html", ".htm")):
            raise WrongContent("the server answered with a web page, not a model; is a login in between?")
        size = response.headers.get("Content-Length")
        coded = _coding(response) != "identity"
        return RemoteFile(
            path=self._name,
            size_bytes=int(size) if size is not None and not coded else None,
            version=None if coded else _validator(response),  # A range would count coded bytes.
            ranged=response.headers.get("Accept-Ranges", "").lower() == "bytes",
            content_type=content_type,
        )


def _check_same(response: Any, file: RemoteFile, offset: int) -> None:
    """Changed where the answer is another version than the listed one."""
    if file.version is not None and _validator(response) not in (file.version, None):
        raise Changed("the server has another version now")
    if response.status != 206:
        if file.version is not None and _validator(response) is None:
            raise Changed("the server does not say which version it sends")
        return
    span, _, total = str(response.headers.get("Content-Range", "")).removeprefix("bytes ").partition("/")
    if span.partition("-")[0] != str(offset) or total not in ("*", str(file.size_bytes)):
        raise Changed(f"the server sends bytes {span or '(unknown)'} of {total or 'an unknown number'}")


def _cut(pieces: Iterator[bytes], skip: int, take: int | None) -> Iterator[bytes]:
    for piece in pieces:
        kept = piece[skip : None if take is None else skip + take]
        skip = max(0, skip - len(piece))
        if kept:
            yield kept
        if take is not None:
            take -= len(kept)
            if take <= 0:
                return


def _decoded(response: Any) -> Iterator[bytes]:
    """The body in pieces, without a content coding that the server applied unasked."""
    coding = _coding(response)
    if coding == "identity":
        while chunk := response.read(_CHUNK_BYTES):
            yield chunk
        return
    if coding not in ("gzip", "deflate"):
        raise WrongContent(f"the server sends content-encoding {coding}, which nobody asked for")
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # Either wrapper.
    while chunk := response.read(_CHUNK_BYTES):
        while chunk:
            yield unpacker.decompress(chunk, _CHUNK_BYTES)  # Bounded: a kilobyte can be a megabyte's.
            chunk = unpacker.unconsumed_tail
    yield unpacker.flush()
    if not unpacker.eof:
        raise http.client.IncompleteRead(b"")


def _coding(response: Any) -> str:
    return str(response.headers.get("Content-Encoding", "identity")).lower()


def _validator(response: Any) -> str | None:
    """What If-Range takes: the ETag, or the date; None where there is neither."""
    etag = response.headers.get("ETag", "")
    # A weak ETag promises the same meaning, not the same bytes.
    return (response.headers.get("Last-Modified") if etag.startswith("W/") or not etag else etag) or None


def _failure(code: int, reason: str) -> Exception:
    text = f"the server answered {code} {reason}"
    if code in _RETRIED:
        return StorageUnavailable(text)
    if code in _CHANGED:
        return Changed(text)
    message = f"{text}: {_HINTS.get(code, 'it will not give this file')}"
    return AccessDenied(message) if code in (401, 403, 407) else NoSuchSource(message)


def _sendable(location: str) -> str:
    """The URI with what no request line may hold (spaces, letters beyond ASCII) percent-encoded, and what is encoded kept."""
    parts = urlsplit(location)
    return urlunsplit(
        parts._replace(path=quote(parts.path, safe=_URL_SAFE), query=quote(parts.query, safe=_URL_SAFE), fragment="")
    )


def _file_name(location: str) -> str:
    parts = urlsplit(location)
    if not parts.hostname:
        raise BadUri("no host in the URI")
    name = PurePosixPath(unquote(parts.path)).name
    if not name or name == ".." or parts.path.endswith("/"):
        raise BadUri("the URI ends without a file name; name one file, for example .../model.joblib")
    return name


def _headers_for(location: str, env: Mapping[str, str]) -> dict[str, str]:
    """Headers from `<host>-headers`: a JSON object, or lines `name: value` as older secrets have them."""
    host = urlsplit(location).netloc.rpartition("@")[2]
    text = env.get(f"{host}-headers") or env.get(f"{host.partition(':')[0]}-headers", "")
    if not text.strip():
        return {}
    try:
        given = json.loads(text)
    except ValueError:
        given = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    if not isinstance(given, dict) or not given:
        raise BadSetting(f'{host}-headers must be a JSON object of headers, like {{"Authorization": "Bearer ..."}}')
    return {str(name).strip(): str(value).strip() for name, value in given.items()}
