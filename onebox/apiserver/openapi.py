"""OpenAPI v3 documents, one per group and version: what kubectl needs for explain, apply and diff.

They are big and rarely asked for, so that they are built on demand and kept compressed until the registry changes.
"""

from __future__ import annotations

import gzip
import hashlib
from typing import Any

import orjson

from controller.base.json import JsonObject, JsonView
from onebox.apiserver.resources.builtin import definitions
from onebox.apiserver.resources.registry import Registry
from onebox.apiserver.resources.types import Resource, Version

_REF = "#/components/schemas/"
_BUILTIN_PREFIX = "io.k8s."
_GVK = "x-kubernetes-group-version-kind"
_PATCH_TYPES = ("application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml")
_STRATEGIC = "application/strategic-merge-patch+json"
_WRITE_PARAMETERS = ("dryRun", "fieldManager", "fieldValidation", "pretty")
_LIST_PARAMETERS = (
    "allowWatchBookmarks", "continue", "fieldSelector", "labelSelector", "limit", "resourceVersion", "resourceVersionMatch",
    "sendInitialEvents", "timeoutSeconds", "watch",
)  # fmt: skip


class OpenApi:
    """The documents of one registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._compressed: dict[str, tuple[int, bytes]] = {}

    def index(self) -> JsonObject:
        """`/openapi/v3`: where the documents are; their hash changes with the registry."""
        paths: JsonObject = {}
        for group, versions in self._registry.groups().items():
            for version in versions:
                place = f"apis/{group}/{version}" if group else f"api/{version}"
                digest = hashlib.sha256(f"{place} {self._registry.generation}".encode()).hexdigest().upper()
                paths[place] = {"serverRelativeURL": f"/openapi/v3/{place}?hash={digest}"}
        return {"paths": paths}

    def document(self, place: str) -> bytes | None:
        """The document of `api/v1` or `apis/<group>/<version>` as gzip; None where there is none."""
        known = self._compressed.get(place)
        if known is not None and known[0] == self._registry.generation:
            return known[1]
        document = self._build(place)
        if document is None:
            return None
        compressed = gzip.compress(orjson.dumps(document), mtime=0)
        self._compressed[place] = (self._registry.generation, compressed)
        return compressed

    def _build(self, place: str) -> JsonObject | None:
        match place.split("/"):
            case ["api", version]:
                group = ""
            case ["apis", group, version]:
                pass
            case _:
                return None
        if version not in self._registry.groups().get(group, ()):
            return None
        paths: JsonObject = {}
        schemas: JsonObject = {}
        for resource in self._registry:
            served = resource.versions.get(version)
            if resource.group == group and served is not None and served.served:
                _describe(resource, served, paths, schemas)
        info = {"title": "Kubernetes CRD Swagger" if group else "Kubernetes", "version": "v0.1.0"}
        return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _describe(resource: Resource, version: Version, paths: JsonObject, schemas: JsonObject) -> None:
    kind = {"group": resource.group, "version": version.name, "kind": resource.kind}
    name = _schema_name(resource, version)
    schemas[name] = {**_schema(version, schemas), _GVK: [kind]}
    schemas[f"{name}List"] = _list_schema(resource, version, name)
    reference = {"$ref": _REF + name}
    listed = {"$ref": f"{_REF}{name}List"}
    base = f"/apis/{resource.group}/{version.name}" if resource.group else f"/api/{version.name}"
    scope = "/namespaces/{namespace}" if resource.namespaced else ""
    collection = f"{base}{scope}/{resource.plural}"
    if resource.namespaced:
        paths[f"{base}/{resource.plural}"] = {"get": _operation("list", kind, listed, _LIST_PARAMETERS)}
    paths[collection] = {
        "get": _operation("list", kind, listed, _LIST_PARAMETERS),
        "post": _operation("post", kind, reference, _WRITE_PARAMETERS, body={"application/json": reference}),
        "delete": _operation("deletecollection", kind, listed, (*_LIST_PARAMETERS, "dryRun")),
    }
    paths[f"{collection}/{{name}}"] = _object_operations(resource, kind, reference, delete=True)
    if version.has_status:
        paths[f"{collection}/{{name}}/status"] = _object_operations(resource, kind, reference, delete=False)


def _object_operations(resource: Resource, kind: JsonObject, reference: JsonObject, *, delete: bool) -> JsonObject:
    patches = _PATCH_TYPES if resource.custom else (*_PATCH_TYPES, _STRATEGIC)
    operations = {
        "get": _operation("get", kind, reference, ("pretty",)),
        "put": _operation("put", kind, reference, _WRITE_PARAMETERS, body={"application/json": reference}),
        "patch": _operation(
            "patch",
            kind,
            reference,
            (*_WRITE_PARAMETERS, "force"),
            body={media: {"type": "object"} for media in patches},
        ),
    }
    if delete:
        parameters = ("dryRun", "gracePeriodSeconds", "propagationPolicy")
        operations["delete"] = _operation("delete", kind, {"type": "object"}, parameters)
    return operations


def _operation(
    action: str, kind: JsonObject, answer: JsonObject, parameters: tuple[str, ...], *, body: JsonObject | None = None
) -> JsonObject:
    operation: JsonObject = {
        "parameters": [
            {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}} for name in parameters
        ],
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": answer}}}},
        "x-kubernetes-action": action,
        _GVK: kind,
    }
    if body is not None:
        operation["requestBody"] = {"content": {media: {"schema": schema} for media, schema in body.items()}}
    return operation


def _schema_name(resource: Resource, version: Version) -> str:
    if resource.custom:
        reversed_group = ".".join(reversed(resource.group.split(".")))
        return f"{reversed_group}.{version.name}.{resource.kind}"
    group = resource.group.split(".")[0] or "core"
    return f"{_BUILTIN_PREFIX}api.{group}.{version.name}.{resource.kind}"


def _schema(version: Version, schemas: JsonObject) -> JsonObject:
    described = dict(version.schemas.describe())
    meta = {"$ref": f"{_REF}{_BUILTIN_PREFIX}ObjectMeta"}
    known = definitions()
    _collect(known["ObjectMeta"], "ObjectMeta", known, schemas)
    properties = dict(described.get("properties") or {})
    for name in ("apiVersion", "kind"):
        properties.setdefault(name, {"type": "string"})
    properties["metadata"] = meta
    described = {**described, "type": "object", "properties": properties}
    resolved: JsonObject = _with_references(described, known, schemas)
    return resolved


def _collect(definition: JsonView, name: str, known: JsonView, schemas: JsonObject) -> None:
    full = _BUILTIN_PREFIX + name
    if full not in schemas:
        schemas[full] = {}  # Taken before its parts are walked, so that a definition within itself ends the walk.
        schemas[full] = _with_references(definition, known, schemas)


def _with_references(value: Any, known: JsonView, schemas: JsonObject) -> Any:
    """A built-in schema with its references in OpenAPI's form; what they lead to is added to `schemas`."""
    if isinstance(value, list):
        return [_with_references(item, known, schemas) for item in value]
    if not isinstance(value, dict):
        return value
    reference = value.get("$ref")
    if not isinstance(reference, str) or reference.startswith("#"):
        if value.get("x-kubernetes-int-or-string") is True and not value.get("anyOf"):
            return {**value, "anyOf": [{"type": "integer"}, {"type": "string"}]}
        return {name: _with_references(inner, known, schemas) for name, inner in value.items()}
    _collect(known[reference], reference, known, schemas)
    target = {"$ref": f"{_REF}{_BUILTIN_PREFIX}{reference}"}
    rest = {name: inner for name, inner in value.items() if name != "$ref"}
    return {**rest, "allOf": [target]} if rest else target


def _list_schema(resource: Resource, version: Version, name: str) -> JsonObject:
    kind = {"group": resource.group, "version": version.name, "kind": resource.list_kind}
    return {
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "items": {"type": "array", "items": {"$ref": _REF + name}},
        },
        _GVK: [kind],
    }
