"""`http://` and `https://`: one file, streamed, resumed where a transfer breaks off, checked, unpacked if it is an archive.

A resumed part is only appended if the server says that the file has not changed since (If-Range); otherwise the transfer
begins again. Headers for a host come from the variable `<host>-headers` (JSON), as KServe's secrets set it.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import random
import threading
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from ladle.errors import StorageUnavailable
from ladle.log import get_logger
from runtimes.storage.archive import is_archive, unpack
from runtimes.storage.publish import staged
from runtimes.storage.uri import BadUri, NoSuchSource, StorageUri, WrongContent

FAILURES_MAX = 6
"""Transfers in a row without progress before it is given up."""
ATTEMPTS_MAX = 100
"""Transfers in all, also where each brings a little. A guess: a terabyte over a line that breaks every 10 GB."""
TIMEOUT_S = 30.0
"""Of the connection and of each read; KServe's timeout."""
BACKOFF_FIRST_S = 0.25
"""Wait before the second attempt; doubles with each further one, with jitter. A guess, as is the most."""
_BACKOFF_MAX_S = 8.0
_CHUNK_BYTES = 1024 * 1024
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Codes that may be different in a moment."""
_RANGE_REFUSED = 416
_URL_SAFE = "!#$%&'()*+,/:;=?@[]~"
"""What stays as it is in a path or query (RFC 3986, reserved characters and the percent sign)."""
_HINTS = {
    401: "it asks for credentials: put them into an https secret of the service account",
    403: "these credentials may not read it",
    404: "it does not exist there: check the path in storageUri",
    410: "it is gone for good",
}
_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})
_BROKEN = (urllib.error.URLError, http.client.HTTPException, OSError)

log = get_logger("runtimes.storage")


def fetch(uri: StorageUri, destination: Path) -> None:
    """Downloads the file into `destination`, unpacked if it is an archive, else under its own name."""
    name = _file_name(uri.location)
    with staged(destination) as staging:
        path = (staging.work if is_archive(name) else staging.files) / name
        download = Download(_sendable(uri.location), _headers_for(uri.location, os.environ))
        download.run(path)
        if uri.sha256 and download.digest.hexdigest() != uri.sha256:
            raise WrongContent(f"the content has sha256 {download.digest.hexdigest()}, not the pinned one; it changed")
        if is_archive(name):
            try:
                unpack(path, staging.files)
            except WrongContent as error:
                raise WrongContent(f"{error} (content type {download.content_type or 'not given'})") from error


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
    host = urlsplit(location).netloc
    text = env.get(f"{host}-headers") or env.get(f"{host.partition(':')[0]}-headers", "")
    if not text.strip():
        return {}
    try:
        given = json.loads(text)
    except ValueError:
        given = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    if not isinstance(given, dict):
        raise BadUri(f"{host}-headers must be a JSON object of headers")
    return {str(name).strip(): str(value).strip() for name, value in given.items()}


@dataclass(slots=True)
class Download:
    """One file on its way here. After `run`, `digest` is its SHA-256."""

    url: str
    headers: Mapping[str, str]
    content_type: str = ""
    digest: Any = field(default_factory=hashlib.sha256)
    received_bytes: int = 0
    validator: str = ""
    """ETag or date of what was received so far: what a resumed part has to match."""
    _rng: random.Random = field(default_factory=random.Random)

    def run(self, path: Path) -> None:
        """Writes the whole file to `path`; NoSuchSource for a final refusal, StorageUnavailable when retries are used up."""
        attempts, failures, reason = 0, 0, ""
        with path.open("wb") as file:
            while failures < FAILURES_MAX and attempts < ATTEMPTS_MAX:
                if attempts:
                    self._wait(failures, reason)
                attempts += 1
                before_bytes = self.received_bytes
                try:
                    self._transfer(file)
                    return
                except urllib.error.HTTPError as error:
                    reason = f"the server answered {error.code} {error.reason}"
                    error.close()
                    if error.code == _RANGE_REFUSED and self.validator:
                        self.validator = ""  # The next attempt begins again.
                    elif error.code not in _RETRIED:
                        raise NoSuchSource(_refusal(error.code, reason)) from None
                except _BROKEN as error:
                    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
                        raise  # The file's, not the connection's.
                    reason = str(getattr(error, "reason", None) or error) or type(error).__name__
                failures = 1 if self.received_bytes > before_bytes else failures + 1
        raise StorageUnavailable(f"tried {attempts} times, last: {reason}; is the server up and reachable from here?")

    def _wait(self, failures: int, reason: str) -> None:
        delay_s = min(_BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** (failures - 1)) * self._rng.uniform(0.5, 1.0)
        log.warning(
            "transfer broke off", url=self.url, reason=reason, received_bytes=self.received_bytes, retry_in_s=delay_s
        )
        threading.Event().wait(delay_s)

    def _transfer(self, file: IO[bytes]) -> None:
        headers = {"Accept-Encoding": "identity", "User-Agent": "ladle-storage", **self.headers}
        if self.received_bytes and self.validator:
            headers |= {"Range": f"bytes={self.received_bytes}-", "If-Range": self.validator}
        request = urllib.request.Request(self.url, headers=headers)  # noqa: S310  # Only http and https come here.
        opener = urllib.request.build_opener(_CarefulRedirects(self.headers))
        with opener.open(request, timeout=TIMEOUT_S) as response:
            if response.status != 206 or not self._continues(response):
                self._restart(file)
            self.content_type = response.headers.get_content_type()
            if self.content_type == "text/html" and not urlsplit(self.url).path.endswith((".html", ".htm")):
                raise WrongContent("the server answered with a web page, not a model; is a login in between?")
            etag = response.headers.get("ETag", "")
            # A weak ETag promises the same meaning, not the same bytes.
            self.validator = response.headers.get("Last-Modified", "") if etag.startswith("W/") or not etag else etag
            coded = response.headers.get("Content-Encoding", "identity") != "identity"
            if coded:
                self.validator = ""  # A range would count coded bytes.
            expected = None if coded else response.headers.get("Content-Length")
            before_bytes = self.received_bytes
            for chunk in _content(response):
                file.write(chunk)
                self.digest.update(chunk)
                self.received_bytes += len(chunk)
            got_bytes = self.received_bytes - before_bytes
            if expected is not None and got_bytes < int(expected):
                raise http.client.IncompleteRead(b"", int(expected) - got_bytes)

    def _continues(self, response: Any) -> bool:
        return str(response.headers.get("Content-Range", "")).startswith(f"bytes {self.received_bytes}-")

    def _restart(self, file: IO[bytes]) -> None:
        if not self.received_bytes:
            return
        file.seek(0)
        file.truncate()
        self.digest, self.received_bytes = hashlib.sha256(), 0


class _CarefulRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but takes the headers meant for one host (they hold credentials) to no other."""

    def __init__(self, private: Mapping[str, str]) -> None:
        self._private = private

    def redirect_request(self, req: Any, *arguments: Any) -> urllib.request.Request | None:
        following = super().redirect_request(req, *arguments)
        if following is not None and urlsplit(following.full_url).netloc != urlsplit(req.full_url).netloc:
            for name in self._private:
                following.remove_header(name.capitalize())
        return following


def _content(response: Any) -> Iterator[bytes]:
    """The body in pieces, without a content coding that the server applied unasked."""
    coding = response.headers.get("Content-Encoding", "identity")
    if coding == "identity":
        while chunk := response.read(_CHUNK_BYTES):
            yield chunk
        return
    if coding not in ("gzip", "deflate"):
        raise WrongContent(f"the server sends content-encoding {coding}, which nobody asked for")
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # Either wrapper.
    while chunk := response.read(_CHUNK_BYTES):
        yield unpacker.decompress(chunk)
    yield unpacker.flush()
    if not unpacker.eof:
        raise http.client.IncompleteRead(b"")


def _refusal(code: int, reason: str) -> str:
    return f"{reason}: {_HINTS.get(code, 'it will not give this file')}"
