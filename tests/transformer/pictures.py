"""Pictures for tests, made here."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest

Image: Any = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def encoded(pixels: Any, form: str = "PNG", **given: Any) -> bytes:
    """A file of these pixels: `(height, width)` or `(height, width, channels)` of uint8."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(buffer, form, **given)
    return buffer.getvalue()


def as_text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def bomb(side: int) -> bytes:
    """A PNG whose head claims `side` x `side` pixels, in a few hundred bytes."""
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
