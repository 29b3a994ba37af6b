"""Headers that a model sends back, as far as they are the model's to set."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ladle.errors import InferenceError
from ladle.server.http.messages import Header

_OURS = frozenset(
    {
        *(
            "connection",
            "content-encoding",
            "content-length",
            "content-type",
            "date",
            "inference-header-content-length",
        ),
        *("keep-alive", "server", "te", "trailer", "transfer-encoding", "upgrade"),
    }
)
"""Headers that describe the answer as it travels: the server's to set. A transformer copies its predictor's among others."""
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
"""RFC 9110 5.6.2, in lower case."""
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_OF_GRPC = b"grpc-"
"""Metadata of this prefix are the protocol's own."""


def model_headers(headers: Mapping[str, str]) -> tuple[Header, ...]:
    """What a model wants to send back, as headers; InferenceError where one could end the head of the answer early."""
    found = []
    for name, value in headers.items():
        if str(name).lower() in _OURS:
            continue
        raw_name, raw_value = str(name).lower().encode("latin-1", "replace"), str(value).encode("latin-1", "replace")
        if not _TOKEN.fullmatch(raw_name) or _CONTROL.search(raw_value):
            raise InferenceError(f"the model's response header {name!r}: {value!r} is not a header")
        found.append((raw_name, raw_value))
    return tuple(found)


def model_content_type(headers: Mapping[str, str], default: bytes) -> bytes:
    """What a model calls its answer where that is a text or bytes; `default` where it does not say."""
    named = {name.lower(): value for name, value in headers.items()}
    found = str(named.get("content-type", "")).encode("latin-1", "replace")
    return default if not found or _CONTROL.search(found) else found


def model_metadata(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The same for gRPC, whose metadata are ASCII."""
    return tuple(
        (name.decode(), value.decode())
        for name, value in model_headers(headers)
        if value.isascii() and not name.startswith(_OF_GRPC)
    )
