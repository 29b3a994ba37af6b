"""`http://` and `https://`: one file, streamed to disk, continued where a connection broke.

Request headers come from the environment variable `<host>-headers` (JSON), as KServe's https secrets set it.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ladle.clock import SystemClock
from ladle.errors import BadModel, StorageUnavailable

ATTEMPTS_MAX = 5
"""How often one file is tried; a guess that rides out a restart of the server."""
BACKOFF_FIRST_S = 0.2
"""Wait before the second attempt; doubles with each further one, with jitter."""
TIMEOUT_S = 30.0
"""How long a connection may be silent (KServe's figure)."""
_CHUNK_BYTES = 1 << 20
_PROGRESS_INTERVAL_S = 5.0
_HINTS = {
    401: "it asks for credentials: put them into an https secret of the service account",
    403: "these credentials may not read it",
    404: "it does not exist there: check the path in storageUri",
    410: "it is gone for good",
}

clock = SystemClock()


def fetch(uri: str, destination: Path) -> None:
    """Downloads the file that `uri` names; BadModel where the server refuses, StorageUnavailable where it never answered."""
    name = unquote(urlsplit(uri).path.rpartition("/")[2])
    if name in ("", ".", ".."):
        raise BadModel(f"{uri}: the URI ends without a file name; name one file, for example .../model.joblib")
    target = destination / name
    failure = ""
    for attempt in range(ATTEMPTS_MAX):
        if attempt:
            time.sleep(BACKOFF_FIRST_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret.
        try:
            _download(uri, target)
        except urllib.error.HTTPError as error:
            failure = _judge(uri, error)
        except (OSError, http.client.HTTPException) as error:
            failure = str(getattr(error, "reason", error)) or type(error).__name__
        else:
            return
    raise StorageUnavailable(
        f"{uri}: tried {ATTEMPTS_MAX} times, last: {failure}; is the server up and reachable from here?"
    )


def _judge(uri: str, error: urllib.error.HTTPError) -> str:
    """The reason to try again; BadModel where trying again cannot help."""
    with error:
        if error.code < http.client.INTERNAL_SERVER_ERROR and error.code not in (408, 416, 429):
            hint = _HINTS.get(error.code, "it will not give this file")
            raise BadModel(f"{uri}: the server answered {error.code} {error.reason}: {hint}")
        return f"the server answered {error.code} {error.reason}"


def _download(uri: str, target: Path) -> None:
    """One attempt; continues a partial file where the server can, else begins anew."""
    have_bytes = target.stat().st_size if target.exists() else 0
    request = urllib.request.Request(uri, headers=_headers(uri))  # noqa: S310 - the registry lets only http(s) through.
    if have_bytes:
        request.add_header("Range", f"bytes={have_bytes}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            target.unlink(missing_ok=True)  # It changed, or was complete: the next attempt takes it whole.
        raise
    with response:
        continued = have_bytes > 0 and response.status == http.client.PARTIAL_CONTENT
        if "text/html" in response.headers.get("Content-Type", "") and not target.name.endswith((".html", ".htm")):
            raise BadModel(f"{uri}: the server answered with a web page, not a model; is a login in between?")
        expected = response.headers.get("Content-Length")
        received = _save(response, target, append=continued)
        if expected is not None and received != int(expected):
            raise ConnectionError(f"the connection ended after {received} of {expected} bytes")


def _headers(uri: str) -> dict[str, str]:
    host = urlsplit(uri).hostname or ""
    try:
        extra: dict[str, str] = json.loads(os.environ.get(f"{host}-headers") or "{}")
    except json.JSONDecodeError as error:
        raise BadModel(f"{uri}: the headers for {host} are no JSON: {error}; correct the https secret") from None
    return {"User-Agent": "ladle-storage", "Accept-Encoding": "identity", **extra}


def _save(response: http.client.HTTPResponse, target: Path, *, append: bool) -> int:
    received, told_s = 0, clock.monotonic_s()
    with target.open("ab" if append else "wb") as file:
        while chunk := response.read(_CHUNK_BYTES):
            file.write(chunk)
            received += len(chunk)
            if clock.monotonic_s() - told_s > _PROGRESS_INTERVAL_S:
                told_s = clock.monotonic_s()
                sys.stderr.write(f"{target.name}: {received / 2**20:.0f} MiB\n")
    return received
