"""V1 requests that come as CloudEvents: what is in them, and the event that answers (spec/kserve.md 5.8).

Binary mode has the attributes in headers and the data as body; structured mode has both in one JSON object. The answer is
an event of the same mode. https://github.com/cloudevents/spec
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from ladle.errors import InvalidInput
from ladle.protocol.ids import new_id
from ladle.protocol.json import decode, encode
from ladle.server.http.messages import JSON, Header, Request, Response
from ladle.server.queue_settings import flag

STRUCTURED = b"application/cloudevents+json"
_PREFIX = b"ce-"
_REQUIRED = ("specversion", "id", "source", "type")
_VERSIONS = ("1.0", "0.3")
_RESPONSE_TYPE = "io.kserve.inference.response"
"""KServe's default of CE_TYPE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSettings:
    """What the events of answers say, by KServe's variables."""

    type: str = _RESPONSE_TYPE
    source: str = ""
    """CE_SOURCE; "" for io.kserve.inference.<model>."""
    merge: bool = False
    """CE_MERGE: whether the request's attributes are the answer's too, but for id and time."""

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> EventSettings:
        return cls(
            type=env.get("CE_TYPE") or _RESPONSE_TYPE,
            source=env.get("CE_SOURCE", ""),
            merge=flag(env, "CE_MERGE", default=False),
        )


@dataclass(frozen=True, slots=True)
class Event:
    """A request's event: its attributes by name, its data, and in which mode it came."""

    attributes: dict[str, Any]
    data: bytes
    structured: bool


def is_event(request: Request) -> bool:
    """Whether this is a CloudEvent in either mode."""
    headers = request.headers
    return b"ce-specversion" in headers or headers.get(b"content-type", b"").startswith(STRUCTURED)


def read_event(request: Request, body: bytes) -> Event:
    """The event that a request is; InvalidInput where attributes are missing or its JSON is none."""
    structured = request.headers.get(b"content-type", b"").startswith(STRUCTURED)
    event = _read_structured(body) if structured else _read_binary(request, body)
    missing = [name for name in _REQUIRED if not isinstance(event.attributes.get(name), str)]
    if missing:
        raise InvalidInput(f"the CloudEvent lacks {', '.join(missing)}, each must be a string")
    if event.attributes["specversion"] not in _VERSIONS:
        raise InvalidInput(
            f"the CloudEvent's specversion = {event.attributes['specversion']}, must be {' or '.join(_VERSIONS)}"
        )
    return event


def _read_binary(request: Request, body: bytes) -> Event:
    attributes = {
        name[len(_PREFIX) :].decode("latin-1"): unquote(value.decode("latin-1"))
        for name, value in request.headers.items()
        if name.startswith(_PREFIX)
    }
    return Event(attributes, body, structured=False)


def _read_structured(body: bytes) -> Event:
    whole = decode(body)
    if not isinstance(whole, dict):
        raise InvalidInput("a structured CloudEvent is a JSON object")
    if "data" not in whole:
        raise InvalidInput("the CloudEvent lacks data")
    data = whole.pop("data")
    return Event(whole, encode(data), structured=True)


def request_within(event: Event, request: Request) -> Request:
    """The request that the event carries. Its headers stay the model's to see; its body is plain."""
    replaced = {b"content-encoding", b"content-length", b"accept-encoding"}
    if event.structured:
        replaced.add(b"content-type")
    headers = [header for header in request.raw_headers if header[0] not in replaced]
    inner = Request(request.method, request.target, headers)
    inner.body, inner.arrived_s = event.data, request.arrived_s
    return inner


def event_answer(response: Response, event: Event, model: str, *, settings: EventSettings, wall_s: float) -> Response:
    """The answer as an event of the same mode; only a whole body of JSON becomes one."""
    if response.stream is not None or isinstance(response.body, tuple) or response.content_type != JSON:
        return response
    attributes = _attributes(event, model, settings, wall_s)
    if event.structured:
        body = encode({**attributes, "data": decode(response.body)})
        return Response(response.status, body, content_type=STRUCTURED, headers=response.headers)
    return Response(response.status, response.body, headers=(*response.headers, *_headers(attributes)))


def _attributes(event: Event, model: str, settings: EventSettings, wall_s: float) -> dict[str, Any]:
    kept = event.attributes if settings.merge else {}
    return {
        **{name: value for name, value in kept.items() if name != "datacontenttype"},
        "specversion": "1.0",
        "id": new_id(),
        "source": settings.source or f"io.kserve.inference.{model}",
        "type": settings.type,
        "time": datetime.fromtimestamp(wall_s, tz=UTC).isoformat(),
    }


def _headers(attributes: Mapping[str, Any]) -> list[Header]:
    return [(_PREFIX + name.encode("latin-1"), _printable(str(value))) for name, value in attributes.items()]


def _printable(value: str) -> bytes:
    """As the HTTP binding writes what is not printable ASCII: each byte of its UTF-8 as a percent sign and two digits."""
    return b"".join(
        b"%c" % byte if 0x21 <= byte <= 0x7E and byte not in b'"%' else b"%%%02X" % byte for byte in value.encode()
    )
