"""Header operations as Envoy has them (pure).

Setting the Host is not a header operation to Envoy but a rewrite of the authority, so it is taken out here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from controller.api.istio import HeaderOperations, Headers
from onebox.istio.xds import Message

_AUTHORITY_NAMES = ("host", ":authority")


def build_header_operations(headers: Headers) -> Message:
    """The four lists that a route, or a weighted cluster, carries; only those that have entries."""
    return {
        **_operations("request", headers.request),
        **_operations("response", headers.response),
    }


def authority_of(headers: Headers) -> str:
    """The Host that the request operations set; "" where they leave it alone."""
    return next((value for name, value in headers.request.set.items() if is_authority(name)), "")


def is_authority(name: str) -> bool:
    return name.lower() in _AUTHORITY_NAMES


def _operations(direction: str, operations: HeaderOperations) -> Message:
    added = [
        *_additions(operations.set, "OVERWRITE_IF_EXISTS_OR_ADD"),
        *_additions(operations.add, ""),  # Envoy's default is to append.
    ]
    # Envoy refuses a configuration that removes the Host or a pseudo header.
    removed = [name for name in operations.remove if not name.startswith(":") and not is_authority(name)]
    built: Message = {}
    if added:
        built[f"{direction}_headers_to_add"] = added
    if removed:
        built[f"{direction}_headers_to_remove"] = removed
    return built


def _additions(values: Mapping[str, str], action: str) -> Iterator[Message]:
    for name, value in sorted(values.items()):
        if not is_authority(name) and not name.startswith(":"):
            addition: Message = {"header": {"key": name, "value": value}}
            addition |= {"append_action": action} if action else {}
            # Without this an empty value removes the header that it was to set.
            yield addition if value else {**addition, "keep_empty_value": True}
