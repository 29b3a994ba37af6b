"""A request to the API, taken apart: which kind, which object, which options, what the answer should look like."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from controller.base.errors import FieldError
from onebox.apiserver.resources.registry import Registry
from onebox.apiserver.resources.types import Resource, Version
from onebox.apiserver.status import PageNotFound, bad_request, invalid_options

DEFAULT_MANAGER = "unknown"
_MANAGER_LENGTH_MAX = 128
"""Longest name of a field manager: Kubernetes' limit."""
_POLICIES = ("Foreground", "Background", "Orphan")
_SERVED_UNDER_NAMESPACE = frozenset({"status", "finalize"})
"""Subresources of namespaces: their path looks like that of a kind in a namespace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a path points at: a collection where `name` is empty."""

    resource: Resource
    version: Version
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def api_version(self) -> str:
        return self.resource.api_version(self.version.name)


def parse_target(path: str, registry: Registry) -> Target:
    """The target of `/api/v1/...` or `/apis/<group>/<version>/...`; PageNotFound where it leads nowhere."""
    parts = [part for part in path.split("/") if part]
    if len(parts) >= 3 and parts[0] == "api":
        group, version, rest = "", parts[1], parts[2:]
    elif len(parts) >= 4 and parts[0] == "apis":
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise PageNotFound
    namespace = ""
    if rest[0] == "namespaces" and len(rest) >= 3 and not (not group and rest[2] in _SERVED_UNDER_NAMESPACE):
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource = (*rest, "", "")[:3]
    resource = registry.find(group, version, plural)
    if resource is None or len(rest) > 3 or (bool(namespace) and not resource.namespaced):
        raise PageNotFound
    if name and resource.namespaced and not namespace:
        raise PageNotFound
    return Target(
        resource=resource, version=resource.versions[version], namespace=namespace, name=name, subresource=subresource
    )


class Form(StrEnum):
    """How the caller wants objects written."""

    OBJECT = "Object"
    TABLE = "Table"
    METADATA = "PartialObjectMetadata"


_AS = re.compile(r"(?:^|;)\s*as=([A-Za-z]+)")


def parse_form(accept: str) -> Form:
    """What an Accept header asks for first, of what we can do."""
    for offer in accept.split(","):
        match = _AS.search(offer)
        if match is not None:
            if "application/json" not in offer:
                continue
            if match[1] == "Table":
                return Form.TABLE
            if match[1] in ("PartialObjectMetadata", "PartialObjectMetadataList"):
                return Form.METADATA
        elif offer.split(";")[0].strip() in ("application/json", "*/*", ""):
            return Form.OBJECT
    return Form.OBJECT


class FieldValidation(StrEnum):
    IGNORE = "Ignore"
    WARN = "Warn"
    STRICT = "Strict"


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    """Options of create, update, patch and apply."""

    manager: str
    dry_run: bool = False
    force: bool = False
    validation: FieldValidation = FieldValidation.WARN
    validation_asked: bool = False
    """The caller named it: then duplicate keys are looked for too, which costs a second parse."""


def parse_write_options(kind: str, query: Mapping[str, str], user_agent: str, *, apply: bool = False) -> WriteOptions:
    """The options of a write; `kind` (CreateOptions, UpdateOptions, PatchOptions) is what errors are about."""
    named = query.get("fieldManager", "")
    if apply and not named:
        message = "Required value: is required for apply patch"
        raise invalid_options(kind, FieldError(field="fieldManager", message=message, cause="FieldValueRequired"))
    if len(named) > _MANAGER_LENGTH_MAX:
        message = f"Too long: may not be more than {_MANAGER_LENGTH_MAX} bytes"
        raise invalid_options(kind, FieldError(field="fieldManager", message=message, cause="FieldValueTooLong"))
    if "force" in query and not apply:
        message = "Forbidden: may not be specified for non-apply patch"
        raise invalid_options(kind, FieldError(field="force", message=message, cause="FieldValueForbidden"))
    asked = query.get("fieldValidation", "")
    if asked not in ("", *FieldValidation):
        message = f'Unsupported value: "{asked}": supported values: "", "Ignore", "Strict", "Warn"'
        raise invalid_options(
            kind, FieldError(field="fieldValidation", message=message, cause="FieldValueNotSupported")
        )
    return WriteOptions(
        manager=named or manager_of(user_agent),
        dry_run=parse_dry_run(kind, query),
        force=parse_flag(query, "force"),
        validation=FieldValidation(asked or "Warn"),
        validation_asked=bool(asked),
    )


def parse_dry_run(kind: str, query: Mapping[str, str]) -> bool:
    """Whether nothing is to be stored."""
    asked = query.get("dryRun", "")
    if asked not in ("", "All"):
        message = f'Unsupported value: ["{asked}"]: supported values: "All"'
        raise invalid_options(kind, FieldError(field="dryRun", message=message, cause="FieldValueNotSupported"))
    return bool(asked)


def manager_of(user_agent: str) -> str:
    """The field manager of a caller who names none: the program in its User-Agent."""
    return (user_agent.split("/", 1)[0] or DEFAULT_MANAGER)[:_MANAGER_LENGTH_MAX]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOptions:
    """Options of a deletion, from its query and its body."""

    grace_s: int | None = None
    policy: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    dry_run: bool = False


def parse_delete_options(query: Mapping[str, str], body: Mapping[str, object]) -> DeleteOptions:
    """The options of a deletion; the body wins over the query."""
    policy = str(body.get("propagationPolicy") or query.get("propagationPolicy") or "") or None
    if policy is None and (body.get("orphanDependents") is True or parse_flag(query, "orphanDependents")):
        policy = "Orphan"
    if policy is not None and policy not in _POLICIES:
        supported = ", ".join(f'"{name}"' for name in (*_POLICIES, "nil"))
        message = f'Unsupported value: "{policy}": supported values: {supported}'
        error = FieldError(field="propagationPolicy", message=message, cause="FieldValueNotSupported")
        raise invalid_options("DeleteOptions", error)
    grace = body.get("gracePeriodSeconds", query.get("gracePeriodSeconds"))
    preconditions = body.get("preconditions")
    conditions: Mapping[str, object] = preconditions if isinstance(preconditions, Mapping) else {}
    return DeleteOptions(
        grace_s=None if grace is None else parse_integer(str(grace)),
        policy=policy,
        uid=_text(conditions.get("uid")),
        resource_version=_text(conditions.get("resourceVersion")),
        dry_run=parse_dry_run("DeleteOptions", query) or bool(body.get("dryRun")),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def parse_flag(query: Mapping[str, str], name: str) -> bool:
    """Whether a parameter says yes, as kube-apiserver reads it: if it is there, and neither `false` nor `0`.

    Kubernetes' Python client writes `True`.
    """
    return name in query and query[name].lower() not in ("false", "0")


def parse_integer(text: str) -> int:
    """A whole number of a query; Refused in the words of Go's parser otherwise."""
    if not re.fullmatch(r"[+-]?\d+", text):
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(text)
