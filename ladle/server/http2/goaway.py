"""GOAWAY frames, taken out of the bytes before h2 sees them, and made without it.

To h2 a connection is over with the first GOAWAY in either direction. To the protocol (RFC 9113 6.8) that frame only ends the
beginning of streams: those that have begun are finished, which is what a server does that is stopped or rolled out.
"""

from __future__ import annotations

from collections.abc import Iterator

from hyperframe.frame import GoAwayFrame

from ladle.server.http2.first_bytes import PREFACE

_HEAD_BYTES = 9
_GOAWAY = 7
_FRAME_BYTES_MAX = 16 * 1024
"""Longest frame that we allow the other side (SETTINGS_MAX_FRAME_SIZE by default)."""


def render_goaway(last_stream_id: int) -> bytes:
    """The frame that says: streams up to this one are finished, others were not seen."""
    return GoAwayFrame(stream_id=0, last_stream_id=last_stream_id, error_code=0).serialize()


class GoAwayFilter:
    """Splits what is received into bytes for h2 and the last stream ids of GOAWAY frames."""

    def __init__(self, *, after_preface: bool) -> None:
        """`after_preface`: the bytes begin with a client's preface, which is no frame."""
        self._preface_left = len(PREFACE) if after_preface else 0
        self._passing = 0
        """Bytes of the present frame that are still to be passed on."""
        self._held = b""
        """The beginning of a frame: its head, or as much as there is of a GOAWAY."""

    def feed(self, data: bytes) -> Iterator[bytes | int]:
        """The parts of `data` in order: bytes for h2, or the last stream id of a GOAWAY."""
        data, self._held = self._held + data, b""
        while data:
            passed = self._preface_left or self._passing
            if passed:
                piece, data = data[:passed], data[passed:]
                self._count(len(piece))
                yield piece
                continue
            length = int.from_bytes(data[:3]) + _HEAD_BYTES
            if len(data) < _HEAD_BYTES or (data[3] == _GOAWAY and len(data) < length <= _FRAME_BYTES_MAX):
                self._held = data
                return
            if data[3] == _GOAWAY and _HEAD_BYTES + 8 <= length <= _FRAME_BYTES_MAX:
                yield int.from_bytes(data[_HEAD_BYTES : _HEAD_BYTES + 4]) & 0x7FFFFFFF
                data = data[length:]
            else:
                self._passing = length

    def _count(self, passed: int) -> None:
        if self._preface_left:
            self._preface_left -= passed
        else:
            self._passing -= passed
