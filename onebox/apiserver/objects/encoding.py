"""From stored records to the bytes of answers. Objects travel as they are stored; only their apiVersion may differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from controller.base.json import JsonObject, JsonView
from onebox.apiserver.kinds.strategy import Strategy
from onebox.apiserver.requests import Target
from onebox.apiserver.storage.records import Key, Record


def index_of(value: JsonView, strategy: Strategy) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """What selectors may ask of an object: its labels and its selectable fields."""
    labels: Mapping[str, str] = (value.get("metadata") or {}).get("labels") or {}
    return labels, strategy.fields(value)


def build_record(key: Key, revision: int, value: JsonObject, *, storage_version: str, strategy: Strategy) -> Record:
    """The stored form of an object. apiVersion and kind come first: readers of other versions swap the head."""
    ordered = {"apiVersion": storage_version, "kind": value["kind"], "metadata": value["metadata"]}
    ordered |= {name: inner for name, inner in value.items() if name not in ordered}
    return Record(key, revision, orjson.dumps(ordered), *index_of(value, strategy))


def object_bytes(record: Record, target: Target) -> bytes:
    """An object in the version that was asked for."""
    resource = target.resource
    if target.version.name == resource.storage:
        return record.data
    stored = _head(resource.api_version(resource.storage))
    assert record.data.startswith(stored), f"{record.key} is stored in another version"
    return _head(target.api_version) + record.data[len(stored) :]


def _head(api_version: str) -> bytes:
    return b'{"apiVersion":"' + api_version.encode() + b'"'


def parse_object(record: Record, target: Target) -> JsonObject:
    """An object as JSON in the version that was asked for; the caller may change it."""
    value: JsonObject = orjson.loads(record.data)
    value["apiVersion"] = target.api_version
    return value


def list_bytes(target: Target, items: Iterable[bytes], metadata: JsonObject) -> bytes:
    """A list of objects."""
    return _list(target.resource.list_kind, target.api_version, items, metadata)


def partial_metadata(value: JsonView) -> JsonObject:
    """An object of which only the metadata is told."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": value["metadata"]}


def partial_list_bytes(items: Iterable[JsonView], metadata: JsonObject) -> bytes:
    parts = (orjson.dumps(partial_metadata(item)) for item in items)
    return _list("PartialObjectMetadataList", "meta.k8s.io/v1", parts, metadata)


def _list(kind: str, api_version: str, items: Iterable[bytes], metadata: JsonObject) -> bytes:
    head: dict[str, Any] = {"kind": kind, "apiVersion": api_version, "metadata": metadata}
    return orjson.dumps(head)[:-1] + b',"items":[' + b",".join(items) + b"]}"
