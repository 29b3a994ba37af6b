"""Metadata of the four kinds: names, who made and changed an object, annotations that are in the wrong place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from controller.api.admission import AdmissionRequest, Operation
from controller.base.errors import FieldError
from controller.base.json import JsonObject, JsonView
from onebox.knative.admission import errors
from onebox.knative.admission.words import dns_1035_problem
from onebox.knative.duration import parse_duration_s
from onebox.knative.names import (
    AUTOSCALING_PREFIX,
    CREATOR_ANNOTATION,
    MODIFIER_ANNOTATION,
    ROLLOUT_DURATION,
    AnnotationKey,
)

ANNOTATIONS = "metadata.annotations"


def set_user_info(obj: JsonObject, request: AdmissionRequest) -> None:
    """Writes down who created the object, and who changed its spec last."""
    if not request.user:
        return
    annotations: JsonObject = obj.setdefault("metadata", {}).setdefault("annotations", {})
    if request.operation is Operation.CREATE:
        annotations[CREATOR_ANNOTATION] = request.user
        annotations[MODIFIER_ANNOTATION] = request.user
    elif request.old is not None and request.old.get("spec") != obj.get("spec"):
        annotations[MODIFIER_ANNOTATION] = request.user


def is_owned(obj: JsonView) -> bool:
    """Whether another object owns this one: then its owner's annotations say who made it."""
    return bool(obj.get("metadata", {}).get("ownerReferences"))


def annotations_of(obj: JsonView) -> Mapping[str, str]:
    found: Mapping[str, str] = obj.get("metadata", {}).get("annotations") or {}
    return found


def check_names(obj: JsonView) -> Iterator[FieldError]:
    """The object's name has to fit into host names and into names of children."""
    metadata = obj.get("metadata", {})
    name, prefix = metadata.get("name", ""), metadata.get("generateName", "")
    if prefix and (problem := dns_1035_problem(prefix.rstrip("-"))):
        yield errors.generic("metadata.generateName", f"not a DNS 1035 label prefix: [{problem}]")
    elif name and (problem := dns_1035_problem(name)):
        yield errors.generic("metadata.name", f"not a DNS 1035 label: [{problem}]")
    elif not name and not prefix:
        yield FieldError(field="metadata.name", message="name or generateName is required", cause="FieldValueRequired")


def check_no_autoscaling_annotations(obj: JsonView) -> Iterator[FieldError]:
    """On anything but a revision template these would be without effect."""
    for key in annotations_of(obj):
        if key.startswith(AUTOSCALING_PREFIX):
            why = 'autoscaling annotations must be put under "spec.template.metadata.annotations" to work'
            yield errors.bad_key(ANNOTATIONS, key, why)


def check_rollout_duration(obj: JsonView) -> Iterator[FieldError]:
    yield from check_whole_seconds(annotations_of(obj), ROLLOUT_DURATION, ANNOTATIONS)


def check_whole_seconds(annotations: Mapping[str, str], annotation: AnnotationKey, path: str) -> Iterator[FieldError]:
    """The annotation, where it is set, is a duration of whole seconds, zero or more."""
    key, value = annotation.find(annotations)
    if not value:
        return
    word = key.rpartition("/")[2]
    try:
        duration_s = parse_duration_s(value)
    except ValueError:
        yield errors.invalid(f"{path}.{key}", value)
        return
    if not duration_s.is_integer():
        yield errors.generic(f"{path}.{key}", f"{word}={value} is not at second precision")
    elif duration_s < 0:
        yield errors.generic(f"{path}.{key}", f"{word}={value} must be positive")


def check_creator_and_modifier(obj: JsonView, old: JsonView) -> Iterator[FieldError]:
    """Nobody rewrites history: the creator stays, the modifier changes with the spec only."""
    before, after = annotations_of(old), annotations_of(obj)
    if before.get(CREATOR_ANNOTATION) != after.get(CREATOR_ANNOTATION):
        yield errors.generic(f"{ANNOTATIONS}.{CREATOR_ANNOTATION}", "annotation value is immutable")
    modifier = after.get(MODIFIER_ANNOTATION)
    if old.get("spec") == obj.get("spec") and before.get(MODIFIER_ANNOTATION) != modifier:
        yield errors.invalid(f"{ANNOTATIONS}.{MODIFIER_ANNOTATION}", modifier or "")


def check_owner_label(obj: JsonView, label: str, owner_kind: str) -> Iterator[FieldError]:
    """A label that names an owner is only believed from an object that this owner owns."""
    metadata = obj.get("metadata", {})
    name = (metadata.get("labels") or {}).get(label)
    owners: list[Mapping[str, Any]] = metadata.get("ownerReferences") or []
    if name is not None and not any(owner.get("kind") == owner_kind and owner.get("name") == name for owner in owners):
        yield errors.missing(f"metadata.labels.{label}")
