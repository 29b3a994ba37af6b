"""Whether a TrainedModel can be stored: KServe's rules (spec/kserve.md 1.4)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pydantic import ValidationError

from controller.api.admission import AdmissionRequest, Operation
from controller.api.field_errors import invalid, type_errors
from controller.api.quantity import parse_quantity
from controller.api.trainedmodel import TrainedModel
from controller.base.errors import FieldError, Invalid
from controller.base.json import JsonObject

_NAME: Final = re.compile(r"[a-zA-Z0-9_-]+")
_SCHEMES: Final = ("s3://", "gs://", "https://", "http://")
"""What KServe's agent fetches."""


def admit_trained_model(request: AdmissionRequest) -> JsonObject:
    """The model as it is to be stored, which is as it was offered."""
    if request.operation is not Operation.DELETE and not request.subresource:
        try:
            model = TrainedModel.parse(request.object)
            old = TrainedModel.parse(request.old) if request.old else None
        except ValidationError as error:
            raise Invalid(type_errors(error)) from None
        errors = [] if model.metadata.deletionTimestamp else list(validate_trained_model(model, old))
        if errors:
            raise Invalid(errors)
    return dict(request.object)


def validate_trained_model(model: TrainedModel, old: TrainedModel | None = None) -> Iterator[FieldError]:
    """All that is wrong with a model, and with taking it for the `old` one."""
    name, source = model.metadata.name, model.spec.model
    if not _NAME.fullmatch(name):
        yield invalid("metadata.name", name, f"must match {_NAME.pattern}: it becomes a path of its server")
    if not source.storageUri.startswith(_SCHEMES):
        yield invalid("spec.model.storageUri", source.storageUri, f"must start with one of {', '.join(_SCHEMES)}")
    if old is not None and not _same(source.memory, old.spec.model.memory):
        yield invalid("spec.model.memory", source.memory, f"cannot be changed; it is {old.spec.model.memory}")


def _same(left: str | float, right: str | float) -> bool:
    try:
        return bool(parse_quantity(left) == parse_quantity(right))
    except ValueError:  # No quantity: the schema says so.
        return left == right
