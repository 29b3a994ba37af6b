"""Table objects (meta.k8s.io/v1), which kubectl prints as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from controller.base.json import JsonObject, JsonView
from onebox.apiserver.resources.types import Column, Resource, Version
from onebox.apiserver.tables.builtin import BUILTIN, DEFAULT
from onebox.apiserver.tables.durations import age
from onebox.apiserver.tables.jsonpath import find

NAME = Column(name="Name", format="name", description="Name of the object, unique among its kind in a namespace.")
Cells = Callable[[JsonView, float], list[Any]]


def build_table(
    resource: Resource,
    version: Version,
    objects: Iterable[JsonObject],
    *,
    metadata: JsonObject,
    now_s: float,
    include: str = "Metadata",
) -> JsonObject:
    """The table of some objects; `include` says what rides along in each row: None, Metadata or Object."""
    columns, cells = _layout(resource, version)
    # Events are told apart by what they say; their names come last, on request.
    if resource.key != "events":
        columns, cells = (NAME, *columns), _with_name(cells)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": [_definition(column) for column in columns],
        "rows": [_row(value, cells, now_s, include) for value in objects],
    }


def _with_name(cells: Cells) -> Cells:
    return lambda value, now_s: [value["metadata"]["name"], *cells(value, now_s)]


def _layout(resource: Resource, version: Version) -> tuple[Sequence[Column], Cells]:
    if resource.custom:
        return version.columns, lambda value, now_s: [_custom_cell(value, column, now_s) for column in version.columns]
    return BUILTIN.get(resource.key, DEFAULT)


def _custom_cell(value: JsonView, column: Column, now_s: float) -> Any:
    found = find(value, column.path)
    if not found or found[0] is None:
        return None
    first = found[0]
    match column.type:
        case "date":
            return age(first, now_s)
        case "string":
            return ",".join(_text(item) for item in found) if len(found) > 1 else _text(first)
        case "integer" | "number":
            return first if isinstance(first, int | float) else None
        case _:
            return first


def _text(value: Any) -> str:
    import orjson

    if isinstance(value, str):
        return value
    return orjson.dumps(value).decode()


def _definition(column: Column) -> JsonObject:
    return {
        "name": column.name,
        "type": column.type,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    }


def _row(value: JsonObject, cells: Cells, now_s: float, include: str) -> JsonObject:
    row: JsonObject = {"cells": cells(value, now_s)}
    if include == "Object":
        row["object"] = value
    elif include != "None":
        partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": value["metadata"]}
        row["object"] = partial
    return row
