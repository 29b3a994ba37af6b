"""Custom resource definitions: what is wrong with one, what its status says, and the kind that it defines. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from controller.api.structural import Node, NodePool, StructuralSchema
from controller.base.errors import FieldError
from controller.base.json import JsonObject, JsonView
from onebox.apiserver.kinds.strategy import Generation, Strategy, World
from onebox.apiserver.resources.types import Column, Resource, ScalePaths, Schemas, Version

CRD_KEY = "customresourcedefinitions.apiextensions.k8s.io"
_AGE = Column(name="Age", type="date", path=".metadata.creationTimestamp")
_DESCRIPTION = "Custom resource definition column (in JSONPath format): {}"

Reader = Callable[[], JsonView]


def _complete(crd: JsonObject) -> None:
    spec = crd.get("spec")
    if not isinstance(spec, dict):
        return
    names = spec.get("names")
    if isinstance(names, dict) and names.get("kind"):
        names.setdefault("singular", names["kind"].lower())
        names.setdefault("listKind", f"{names['kind']}List")
    spec.setdefault("conversion", {"strategy": "None"})


def _prepare(crd: JsonObject, old: JsonView | None, _: World) -> None:
    if old is None:
        stored = [version["name"] for version in crd["spec"]["versions"] if version.get("storage")]
        names = {"plural": "", "kind": ""}
        crd["status"] = {"conditions": None, "acceptedNames": names, "storedVersions": stored}


def established_status(crd: JsonView, now: str) -> JsonObject:
    """The status of a definition whose names are free and whose kind is served."""
    conditions = [
        ("NamesAccepted", "NoConflicts", "no conflicts found"),
        ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    ]
    return {
        "conditions": [
            {"type": type_, "status": "True", "lastTransitionTime": now, "reason": reason, "message": message}
            for type_, reason, message in conditions
        ],
        "acceptedNames": crd["spec"]["names"],
        "storedVersions": [version["name"] for version in crd["spec"]["versions"] if version.get("storage")],
    }


def _validate(crd: JsonView, old: JsonView | None) -> Iterator[FieldError]:
    spec = crd.get("spec") or {}
    names, group = spec.get("names") or {}, spec.get("group", "")
    name = (crd.get("metadata") or {}).get("name", "")
    if name != f"{names.get('plural', '')}.{group}":
        message = f'Invalid value: "{name}": must be spec.names.plural+"."+spec.group'
        yield FieldError(field="metadata.name", message=message)
    versions = spec.get("versions") or []
    if sum(bool(version.get("storage")) for version in versions) != 1:
        message = "Invalid value: must have exactly one version marked as storage version"
        yield FieldError(field="spec.versions", message=message)
    for version in versions:
        where = "spec.validation" if len(versions) == 1 else f"spec.versions[{versions.index(version)}].schema"
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if schema is None:
            message = "Required value: schemas are required"
            yield FieldError(field=f"{where}.openAPIV3Schema", message=message, cause="FieldValueRequired")
        else:
            yield from _validate_structure(schema, f"{where}.openAPIV3Schema", root=True)
    if old is not None and (old.get("spec") or {}).get("scope") != spec.get("scope"):
        message = f'Invalid value: "{spec.get("scope")}": field is immutable'
        yield FieldError(field="spec.scope", message=message)


def _validate_structure(schema: JsonView, path: str, *, root: bool = False) -> Iterator[FieldError]:
    """Every value has a type, as structural schemas demand."""
    for name, part in (schema.get("properties") or {}).items():
        yield from _validate_structure(part, f"{path}.properties[{name}]")
    for name in ("items", "additionalProperties"):
        part = schema.get(name)
        if isinstance(part, dict):
            yield from _validate_structure(part, f"{path}.{name}")
    untyped = not schema.get("x-kubernetes-int-or-string") and not schema.get("x-kubernetes-preserve-unknown-fields")
    if not schema.get("type") and (untyped or root):
        where = "at the root" if root else "for specified object fields"
        message = f"Required value: must not be empty {where}"
        yield FieldError(field=f"{path}.type", message=message, cause="FieldValueRequired")


CRD = Strategy(
    complete=_complete,
    prepare=_prepare,
    validate=_validate,
    skeleton={
        "metadata": {},
        "spec": {"group": "", "names": {"plural": "", "kind": ""}, "scope": "", "versions": None},
        "status": {"conditions": None, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": None},
    },
    generation=Generation.SPEC,
)


def resource_of(crd: JsonView, read: Reader, pool: NodePool, meta: Node) -> Resource:
    """The kind that a definition defines. `read` gets the definition again when a schema is needed."""
    spec = crd["spec"]
    names = spec["names"]
    versions = {version["name"]: _version(version, read, pool, meta) for version in spec["versions"]}
    storage = next(version["name"] for version in spec["versions"] if version.get("storage"))
    return Resource(
        group=spec["group"],
        plural=names["plural"],
        kind=names["kind"],
        versions=versions,
        storage=storage,
        namespaced=spec["scope"] == "Namespaced",
        singular=names.get("singular") or names["kind"].lower(),
        list_kind=names.get("listKind") or f"{names['kind']}List",
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        strategy=Strategy(generation=Generation.SPEC, typed=False),
        custom=True,
        verbs=("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"),
    )


def _version(version: JsonView, read: Reader, pool: NodePool, meta: Node) -> Version:
    name = version["name"]

    def describe() -> JsonView:
        found = next(part for part in read()["spec"]["versions"] if part["name"] == name)
        schema: JsonView = (found.get("schema") or {}).get("openAPIV3Schema") or {}
        return schema

    subresources = version.get("subresources") or {}
    return Version(
        name=name,
        schemas=Schemas(lambda: StructuralSchema.compile(describe(), pool=pool, meta=meta), describe),
        served=bool(version.get("served")),
        has_status=subresources.get("status") is not None,
        scale=_scale(subresources.get("scale")),
        columns=tuple(_column(column) for column in version.get("additionalPrinterColumns") or ()) or (_AGE,),
    )


def _scale(declared: JsonView | None) -> ScalePaths | None:
    if declared is None:
        return None
    return ScalePaths(
        spec=declared.get("specReplicasPath", "").lstrip("."),
        status=declared.get("statusReplicasPath", "").lstrip("."),
        selector=declared.get("labelSelectorPath", "").lstrip("."),
    )


def _column(declared: JsonView) -> Column:
    path: Any = declared.get("jsonPath", "")
    return Column(
        name=declared["name"],
        type=declared.get("type", "string"),
        format=declared.get("format", ""),
        description=declared.get("description") or _DESCRIPTION.format(path),
        priority=declared.get("priority", 0),
        path=path,
    )
