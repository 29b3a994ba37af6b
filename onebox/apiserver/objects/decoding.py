"""From a request's body to a JSON object of the right kind, or a refusal in kube-apiserver's words. Pure."""

from __future__ import annotations

import json
from typing import Any

import orjson

from controller.base.json import JsonObject
from onebox.apiserver.metadata import type_errors
from onebox.apiserver.objects import protobuf
from onebox.apiserver.requests import Target
from onebox.apiserver.status import Refused, bad_request, unsupported_media

JSON_TYPES = ("application/json",)
YAML_TYPES = ("application/yaml", "text/yaml")
_ACCEPTED = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")


def parse_body(body: bytes, content_type: str, target: Target) -> JsonObject:
    """The object of a create or an update."""
    media = content_type.split(";")[0].strip()
    if media in YAML_TYPES:
        value = parse_yaml(body)
    elif media in JSON_TYPES or not media:
        value = _parse_json(body, target)
    elif media == protobuf.MEDIA_TYPE:
        value = _parse_protobuf(body, target)
    else:
        raise unsupported_media(_ACCEPTED)
    if not isinstance(value, dict):
        raise _unrecognized(target, f"couldn't get version/kind; json parse error: {_go_type_error(value)}")
    return value


def _parse_protobuf(body: bytes, target: Target) -> Any:
    try:
        return protobuf.decode_object(body, target.resource.group, target.resource.kind)
    except protobuf.BadMessage as error:
        raise bad_request(f"cannot decode the request's body: {error}") from error


def _parse_json(body: bytes, target: Target) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        why = "unexpected end of JSON input" if error.pos >= len(body.rstrip()) else str(error)
        text = body.decode(errors="replace")
        raise _unrecognized(target, f"couldn't get version/kind; json parse error: {why} ({text})") from None


def parse_yaml(body: bytes) -> Any:
    """A YAML (hence also JSON) document as JSON values; Refused (400) where it is neither."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    # Imported here: only people's own manifests come as YAML.
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _json_values(yaml.load(body, Loader=loader))  # noqa: S506 (a safe loader, in C where there is one)
    except yaml.YAMLError as error:
        raise bad_request(f"error decoding YAML: error converting YAML to JSON: yaml: {_yaml_problem(error)}") from None


def _yaml_problem(error: Exception) -> str:
    """What is wrong in the words, and with the line numbers, of Go's YAML parser."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
    line = 0 if mark is None else mark.line + (1 if type(error).__name__ == "ScannerError" else 0)
    return f"line {line}: {problem}" if line else str(problem)


def _json_values(value: Any) -> Any:
    """YAML's dates and non-string keys in JSON's terms."""
    if isinstance(value, dict):
        return {str(key): _json_values(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_json_values(inner) for inner in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return value.isoformat().replace("+00:00", "Z") if hasattr(value, "isoformat") else str(value)


def _unrecognized(target: Target, why: str) -> Refused:
    return bad_request(f"the object provided is unrecognized (must be of type {target.resource.kind}): {why}")


def _go_type_error(value: Any) -> str:
    kind = {list: "array", str: "string", bool: "bool"}.get(type(value), "number")
    fields = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
    return f"json: cannot unmarshal {kind} into Go value of type {fields}"


def check_identity(value: JsonObject, target: Target) -> None:
    """Fills in apiVersion, kind, name and namespace from the path where they are missing; Refused where they differ."""
    resource = target.resource
    api_version, kind = value.get("apiVersion") or target.api_version, value.get("kind") or resource.kind
    if not isinstance(api_version, str) or not isinstance(kind, str):
        raise _unrecognized(target, "couldn't get version/kind; json parse error: wrong type")
    if resource.custom and not (value.get("apiVersion") and value.get("kind")):
        missing = "kind" if not value.get("kind") else "apiVersion"
        raise _unrecognized(target, f"Object '{missing}' is missing")
    if kind != resource.kind or api_version != target.api_version:
        raise _wrong_kind(api_version, kind, target)
    value["apiVersion"], value["kind"] = api_version, kind
    metadata = value.get("metadata")
    if metadata is None:
        metadata = value["metadata"] = {}
    if not isinstance(metadata, dict):
        raise _undecodable(target, "json: cannot unmarshal into Go struct field .metadata of type v1.ObjectMeta")
    wrong = type_errors(metadata)
    if wrong is not None:
        raise _undecodable(target, f"json: cannot unmarshal into Go struct field {wrong}")
    _check_address(metadata, target)


def _check_address(metadata: JsonObject, target: Target) -> None:
    name, namespace = metadata.get("name") or "", metadata.get("namespace") or ""
    if target.name and name != target.name:
        if name:
            raise bad_request(f"the name of the object ({name}) does not match the name on the URL ({target.name})")
        metadata["name"] = target.name
    if namespace and namespace != target.namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    if target.resource.namespaced:
        metadata["namespace"] = target.namespace


def _wrong_kind(api_version: str, kind: str, target: Target) -> Refused:
    resource = target.resource
    version = api_version.rsplit("/", 1)[-1]
    if resource.custom:
        return bad_request(
            f"the API version in the data ({api_version}) does not match the expected API version ({target.api_version})"
            if kind == resource.kind
            else f"the kind in the data ({kind}) does not match the expected kind ({resource.kind})"
        )
    if kind == resource.kind:
        why = f'no kind "{kind}" is registered for version "{api_version}" in scheme "onebox"'
    else:
        why = f"converting ({version}.{kind}) to ({resource.group or 'core'}.{resource.kind}): unknown conversion"
    return bad_request(f'{kind} in version "{version}" cannot be handled as a {resource.kind}: {why}')


def _undecodable(target: Target, why: str) -> Refused:
    kind = target.resource.kind
    return bad_request(f'{kind} in version "{target.version.name}" cannot be handled as a {kind}: {why}')


def cannot_decode(target: Target, why: str) -> Refused:
    """A body that is JSON, but not of this kind."""
    return _undecodable(target, why)


def duplicate_keys(body: bytes) -> tuple[str, ...]:
    """Paths of keys that occur twice in a JSON text; none where it is not JSON."""
    found: list[str] = []
    try:
        document = json.loads(body, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return ()
    _collect_duplicates(document, "", found)
    return tuple(found)


class _Pairs(list[tuple[str, Any]]):
    """The members of a JSON object in order, duplicates included."""


def _collect_duplicates(value: Any, path: str, found: list[str]) -> None:
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for name, inner in value:
            where = f"{path}.{name}" if path else name
            if name in seen:
                found.append(where)
            seen.add(name)
            _collect_duplicates(inner, where, found)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _collect_duplicates(inner, f"{path}[{index}]", found)
