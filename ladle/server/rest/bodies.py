"""Bodies as they travel: content types, content codings, headers as models see them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping

from ladle.errors import InvalidInput, Unsupported
from ladle.server.http.messages import Buffer, Request

DECODED_BYTES_MAX = 1024 * 1024 * 1024
"""What a compressed body may unpack to; the limit of plain ones. A kilobyte of zeros unpacks to a thousand."""
_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
JSON_TYPES = frozenset(
    {
        "",
        "application/json",
        "application/cloudevents+json",
        "application/ld+json",
        "application/octet-stream",
        # What curl -d sends where nobody says otherwise, and nobody means.
        "application/x-www-form-urlencoded",
    }
)
"""Content types of bodies that are JSON; with others the body may be for the model as it came."""


class TextHeaders(Mapping[str, str]):
    """Headers of a request by lower-case name, decoded when somebody looks."""

    __slots__ = ("_headers",)

    def __init__(self, headers: dict[bytes, bytes]) -> None:
        self._headers = headers

    def __getitem__(self, name: str) -> str:
        return self._headers[name.lower().encode("latin-1", "replace")].decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._headers)

    def __len__(self) -> int:
        return len(self._headers)


def is_json(request: Request) -> bool:
    """Whether the content type says, or leaves open, that the body is JSON."""
    return request.header(b"content-type").partition(";")[0].strip().lower() in JSON_TYPES


def decoded_body(request: Request) -> Buffer:
    """The body without its content coding; InvalidInput where it is broken or unpacks to too much."""
    coding = request.headers.get(b"content-encoding")
    if coding is None or coding == b"identity":
        return request.body
    name = coding.decode("latin-1").strip().lower()
    if name not in _WINDOW_BITS:
        raise Unsupported(f"content-encoding {name} is not supported, use gzip or deflate")
    return _inflate(request.body, name)


def _inflate(body: Buffer, name: str) -> bytes:
    unpacker = zlib.decompressobj(_WINDOW_BITS[name])
    try:
        unpacked = unpacker.decompress(body, DECODED_BYTES_MAX)
    except zlib.error as error:
        if name != "deflate":
            raise InvalidInput(f"the body is no {name}: {error}") from None
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)  # What some clients call deflate lacks the zlib wrapper.
        unpacked = _inflate_bare(unpacker, body)
    if unpacker.unconsumed_tail:
        raise InvalidInput(f"the body unpacks to more than {DECODED_BYTES_MAX} bytes")
    if not unpacker.eof:
        raise InvalidInput(f"the body is no {name}: it ends early")
    return unpacked


def _inflate_bare(unpacker: zlib._Decompress, body: Buffer) -> bytes:
    try:
        return unpacker.decompress(body, DECODED_BYTES_MAX)
    except zlib.error as error:
        raise InvalidInput(f"the body is no deflate: {error}") from None


def compressed(body: bytes, request: Request) -> tuple[bytes, str] | None:
    """The body in the one coding that the client asks for; None for plain.

    Only a client that names a single coding wants it: most list several by habit, on every request, and packing a tensor
    takes longer than sending it.
    """
    wish = request.headers.get(b"accept-encoding")
    if wish == b"gzip":
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    elif wish == b"deflate":
        packer = zlib.compressobj(_LEVEL)
    else:
        return None
    return packer.compress(body) + packer.flush(), wish.decode()


_LEVEL = 1
"""zlib's fastest: on tensors the higher levels gain a few percent for several times the time (measured 2026-11-21)."""
