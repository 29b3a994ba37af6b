"""What KServe's logger tells of a request and its answer: two CloudEvents in binary mode, and the flags that shape them. (pure)

The attributes are KServe's (spec/kserve.md 5.9). https://github.com/cloudevents/spec
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from urllib.parse import SplitResult, urlsplit

from ladle.protocol.ids import new_id
from ladle.server.http.messages import Header, Request
from ladle.server.queue_settings import BadSetting

REQUEST_TYPE = "org.kubeflow.serving.inference.request"
RESPONSE_TYPE = "org.kubeflow.serving.inference.response"
_SCHEMES = {"http": 80, "https": 443}
_OWN_ID = b"ce-id"
_BODY_HEADERS = (b"content-type", b"content-encoding")


class LogMode(StrEnum):
    """What --log-mode may say."""

    ALL = "all"
    REQUEST = "request"
    RESPONSE = "response"


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadLogSettings:
    """Where events go, and what each of them says of the server that it is about."""

    url: SplitResult
    """--log-url; http or https."""
    mode: LogMode = LogMode.ALL
    source: str = ""
    """--source-uri, or the pod's name."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """inferenceservicename, namespace, component, endpoint; those that are empty are left out."""
    metadata_headers: tuple[str, ...] = ()
    """Names of request headers that are repeated in ce-metadata, as HTTP writes them: X-Team."""
    annotations: str = ""
    """JSON for ce-annotations; "" for none."""
    ca_file: str = ""
    """Certificate authorities for https; "" for the system's."""
    verifies: bool = True
    """Whether the certificate of an https sink is checked."""
    gateway: str = ""
    """HOST:PORT through which cluster-local names lead; "" where they resolve (LADLE_GATEWAY, which a onebox sets)."""

    @classmethod
    def parse(cls, argv: Sequence[str], env: Mapping[str, str]) -> PayloadLogSettings | None:
        """The logger's flags of KServe's agent, with dashes or underscores; None without --log-url.

        BadSetting where a value is none of those that are understood.
        """
        flags, _ = _parser().parse_known_args([_with_dashes(word) for word in argv])
        if not flags.log_url:
            return None
        attributes = {
            "inferenceservicename": flags.inference_service,
            "namespace": flags.namespace,
            "component": flags.component,
            "endpoint": flags.endpoint,
        }
        annotations = dict(pair.partition("=")[::2] for pair in _listed(flags.metadata_annotations))
        source = flags.source_uri or env.get("SERVING_POD") or env.get("POD_NAME") or flags.inference_service
        for name, value in (("--source-uri", source), *attributes.items()):
            if not value.isprintable():
                raise BadSetting(f"{name} = {value!r}, must be printable: it becomes a header")
        return cls(
            url=_url(flags.log_url),
            mode=_mode(flags.log_mode),
            source=source,
            attributes={name: value for name, value in attributes.items() if value},
            metadata_headers=tuple(canonical(name) for name in _listed(flags.metadata_headers)),
            annotations=json.dumps(annotations, separators=(",", ":")) if annotations else "",
            ca_file=flags.logger_ca_cert_file,
            verifies=flags.logger_tls_skip_verify.lower() != "true",
            gateway=env.get("LADLE_GATEWAY", ""),
        )


@dataclass(frozen=True, slots=True)
class PayloadEvent:
    """One event: a whole HTTP request but for its address."""

    headers: tuple[Header, ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Passage:
    """What the two events of one request have in common."""

    id: bytes
    metadata: bytes
    body_headers: tuple[Header, ...]
    """Content type and encoding of the request, which KServe repeats for the answer."""


def passage_of(request: Request, settings: PayloadLogSettings) -> Passage:
    """The request's own id, or a new one; and the headers that were asked for, each with all its values."""
    found: dict[str, list[str]] = {}
    for name in settings.metadata_headers:
        wanted = name.lower().encode("latin-1")
        values = [value.decode("latin-1") for header, value in request.raw_headers if header == wanted]
        if values:
            found[name] = values
    return Passage(
        id=request.headers.get(_OWN_ID) or new_id().encode(),
        metadata=json.dumps(found, separators=(",", ":")).encode(),  # ASCII only, so that it may be a header.
        body_headers=tuple((name, request.headers[name]) for name in _BODY_HEADERS if name in request.headers),
    )


def build_event(
    kind: str,
    passage: Passage,
    body: bytes,
    *,
    settings: PayloadLogSettings,
    wall_s: float,
    encoding: bytes | None = None,
) -> PayloadEvent:
    """The event of type `kind`. `encoding`: the answer's own content-encoding, b"" for none; None keeps the request's."""
    time = datetime.fromtimestamp(wall_s, tz=UTC).isoformat().replace("+00:00", "Z")
    kept = passage.body_headers
    if encoding is not None:
        kept = tuple(header for header in kept if header[0] != b"content-encoding")
        kept += ((b"content-encoding", encoding),) if encoding else ()
    attributes = {"specversion": "1.0", "type": kind, "source": settings.source, "time": time, **settings.attributes}
    if settings.annotations:
        attributes["annotations"] = settings.annotations
    headers = [(b"ce-" + name.encode(), value.encode("latin-1", "replace")) for name, value in attributes.items()]
    return PayloadEvent((*kept, *headers, (b"ce-id", passage.id), (b"ce-metadata", passage.metadata)), body)


def canonical(name: str) -> str:
    """A header's name as Go and KServe's events write it: x-team is X-Team."""
    return "-".join(part.capitalize() for part in name.split("-"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    names = ("log-url", "source-uri", "inference-service", "namespace", "endpoint", "component")
    lists = ("metadata-headers", "metadata-annotations")
    for name in (*names, *lists, "logger-ca-cert-file", "logger-tls-skip-verify"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--log-mode", default=LogMode.ALL.value)
    return parser


def _with_dashes(word: str) -> str:
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("--") else word


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _mode(text: str) -> LogMode:
    try:
        return LogMode(text)
    except ValueError:
        raise BadSetting(f"--log-mode = {text}, must be one of {', '.join(LogMode)}") from None


def _url(text: str) -> SplitResult:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as error:
        raise BadSetting(f"--log-url = {text}: {error}") from None
    if url.scheme not in _SCHEMES or not url.hostname or port == 0 or not text.isprintable():
        choices = " or ".join(f"{scheme}://HOST[:PORT][/PATH]" for scheme in _SCHEMES)
        raise BadSetting(f"--log-url = {text}, must be {choices}: buckets are written by KServe's own agent only")
    return url


def port_of(url: SplitResult) -> int:
    """The port that a URL means."""
    return url.port or _SCHEMES[url.scheme]
