"""ObjectMeta: what a writer may say in it, what the server says, and what is wrong with it. Pure.

The patterns and messages are those of Kubernetes' API machinery, since kubectl shows them to people.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

from controller.base.errors import FieldError
from controller.base.json import JsonObject, JsonView

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_SUBDOMAIN_MESSAGE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_NAME_MESSAGE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an "
    "alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_SERVICE_NAME_MESSAGE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end "
    "with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_LABEL_VALUE_MESSAGE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_QUALIFIED_MESSAGE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_NAME_MAX, _LABEL_MAX = 253, 63
"""Longest DNS subdomain and label (RFC 1123)."""
_ANNOTATIONS_BYTES_MAX = 256 << 10
"""All annotations of an object together: Kubernetes' limit."""
_SUFFIX_LENGTH = 5
_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""What generateName appends: no vowels, no look-alikes, as Kubernetes does it."""
_STANDARD_FINALIZERS = frozenset({"kubernetes", "orphan", "foregroundDeletion"})
_LABEL_NAMED = frozenset({"namespaces"})
_SERVICE_NAMED = frozenset({"services"})
_PATH_SEGMENT_NAMED = frozenset(
    {f"{name}.rbac.authorization.k8s.io" for name in ("roles", "rolebindings", "clusterroles")}
)

SYSTEM_FIELDS = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
)
"""What no writer can change: carried over from the stored object, or set by the server."""


def type_errors(metadata: JsonView) -> str | None:
    """The first field of metadata with a wrong JSON type, as `metadata.labels.a of type string`; None where all fit."""
    for name in ("labels", "annotations"):
        value = metadata.get(name)
        if value is not None and not isinstance(value, dict):
            return f"metadata.{name} of type map[string]string"
        for inner in (value or {}).values():
            if not isinstance(inner, str):
                return f"metadata.{name} of type string"
    for name in ("name", "namespace", "generateName", "resourceVersion", "uid"):
        if metadata.get(name) is not None and not isinstance(metadata[name], str):
            return f"metadata.{name} of type string"
    for name, kind in (("finalizers", str), ("ownerReferences", dict)):
        value = metadata.get(name)
        if value is not None and not (isinstance(value, list) and all(isinstance(item, kind) for item in value)):
            return f"metadata.{name} of type []{'string' if kind is str else 'v1.OwnerReference'}"
    return None


def generated_name(prefix: str, rng: random.Random) -> str:
    """`prefix` and five random characters, the prefix shortened where the result would be longer than a label."""
    head = prefix[: _LABEL_MAX - _SUFFIX_LENGTH]
    return head + "".join(rng.choice(_SUFFIX_ALPHABET) for _ in range(_SUFFIX_LENGTH))


def tidy(metadata: JsonObject) -> None:
    """Removes what says nothing: empty maps and lists, nulls."""
    for name in [name for name, value in metadata.items() if value is None or value in ("", {}, [])]:
        del metadata[name]


def carry_over(metadata: JsonObject, old: JsonView) -> None:
    """The server's own fields from the stored object, whatever the writer sent."""
    for name in SYSTEM_FIELDS:
        if name in old:
            metadata[name] = old[name]
        else:
            metadata.pop(name, None)
    if "generateName" in old:
        metadata["generateName"] = old["generateName"]


def name_errors(name: str, resource: str) -> Iterator[FieldError]:
    """What is wrong with an object's name."""
    if resource in _PATH_SEGMENT_NAMED:
        if name in (".", "..") or "/" in name or "%" in name:
            yield FieldError(field="metadata.name", message=f"Invalid value: \"{name}\": may not contain '/' or '%'")
        return
    pattern, message, length = _SUBDOMAIN, _SUBDOMAIN_MESSAGE, _NAME_MAX
    if resource in _LABEL_NAMED:
        pattern, message, length = _LABEL_NAME, _LABEL_NAME_MESSAGE, _LABEL_MAX
    elif resource in _SERVICE_NAMED:
        pattern, message, length = _SERVICE_NAME, _SERVICE_NAME_MESSAGE, _LABEL_MAX
    if len(name) > length:
        yield _invalid("metadata.name", name, f"must be no more than {length} characters")
    if not pattern.fullmatch(name):
        yield _invalid("metadata.name", name, message)


def meta_errors(metadata: JsonView, old: JsonView | None, *, custom: bool) -> Iterator[FieldError]:
    """What is wrong with the rest of metadata; `custom`: whether the kind comes from a custom resource definition."""
    for key, value in (metadata.get("labels") or {}).items():
        yield from _key_errors(key, "metadata.labels")
        if len(value) > _LABEL_MAX:
            yield _invalid("metadata.labels", value, f"must be no more than {_LABEL_MAX} bytes")
        elif not _LABEL_VALUE.fullmatch(value):
            yield _invalid("metadata.labels", value, _LABEL_VALUE_MESSAGE)
    annotations = metadata.get("annotations") or {}
    for key in annotations:
        yield from _key_errors(key.lower(), "metadata.annotations")
    if sum(len(key) + len(value) for key, value in annotations.items()) > _ANNOTATIONS_BYTES_MAX:
        message = f"Too long: may not be more than {_ANNOTATIONS_BYTES_MAX} bytes"
        yield FieldError(field="metadata.annotations", message=message, cause="FieldValueTooLong")
    yield from _finalizer_errors(metadata, old, custom=custom)
    yield from _owner_errors(metadata)


def _finalizer_errors(metadata: JsonView, old: JsonView | None, *, custom: bool) -> Iterator[FieldError]:
    finalizers: list[str] = metadata.get("finalizers") or []
    for index, finalizer in enumerate(finalizers):
        # Of custom kinds Kubernetes asks for no domain; KServe's and Knative's finalizers have none.
        if not custom and finalizer not in _STANDARD_FINALIZERS and "/" not in finalizer and old is None:
            message = "name is neither a standard finalizer name nor is it fully qualified"
            yield _invalid(f"metadata.finalizers[{index}]", finalizer, message)
    if old is not None and old.get("deletionTimestamp"):
        added = [finalizer for finalizer in finalizers if finalizer not in (old.get("finalizers") or ())]
        if added:
            listed = ", ".join(f'"{finalizer}"' for finalizer in added)
            message = (
                "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers "
                f"[]string{{{listed}}}"
            )
            yield FieldError(field="metadata.finalizers", message=message, cause="FieldValueForbidden")


def _owner_errors(metadata: JsonView) -> Iterator[FieldError]:
    owners: list[JsonView] = metadata.get("ownerReferences") or []
    for index, owner in enumerate(owners):
        for name in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(name):
                message = f'Invalid value: "": {name} must not be empty'
                yield FieldError(field=f"metadata.ownerReferences[{index}].{name}", message=message)
    if sum(bool(owner.get("controller")) for owner in owners) > 1:
        message = "Invalid value: only one reference can have Controller set to true"
        yield FieldError(field="metadata.ownerReferences", message=message)


def _key_errors(key: str, field: str) -> Iterator[FieldError]:
    prefix, separator, name = key.rpartition("/")
    if separator and not _SUBDOMAIN.fullmatch(prefix):
        yield _invalid(field, key, f"prefix part {_SUBDOMAIN_MESSAGE}")
    if not name:
        yield _invalid(field, key, "name part must be non-empty")
    elif len(name) > _LABEL_MAX:
        yield _invalid(field, key, f"name part must be no more than {_LABEL_MAX} bytes")
    if not _QUALIFIED.fullmatch(name):
        yield _invalid(field, key, _QUALIFIED_MESSAGE)


def _invalid(field: str, value: Any, message: str) -> FieldError:
    return FieldError(field=field, message=f'Invalid value: "{value}": {message}')
