"""Whether a component's implementation holds together: one of model, containers or a known explainer, and sound containers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from controller.api.core import Container
from controller.api.field_errors import duplicate, forbidden, invalid, not_supported, required
from controller.api.inferenceservice import (
    LEGACY_FORMATS,
    TRANSFORMER_CONTAINER,
    ComponentSpec,
    ExplainerSpec,
    ModelSpec,
    PredictorSpec,
)
from controller.api.quantity import parse_quantity
from controller.api.servingruntime import PROTOCOL_RANKS
from controller.base.errors import FieldError

FORBIDDEN_ENV: Final = "PYTHONPATH"
"""KServe refuses it for security: whoever sets it decides which code a server imports."""
STORAGE_URI_ENV: Final = "STORAGE_URI"
"""Names the model of a custom container."""
_CUSTOM_PROTOCOLS: Final = ("v1", "v2")
_ONE_OF_TWO: Final = (
    "take one of the two out. After a server-side apply that has no model any more, the fields of it that were filled in "
    "are still there: `kubectl replace -f FILE` puts the whole manifest in its place"
)


def validate_implementation(name: str, component: ComponentSpec, path: str) -> Iterator[FieldError]:
    """All that is wrong with what runs in a component's pod; `name` is predictor, transformer or explainer."""
    match component:
        case PredictorSpec():
            yield from _validate_predictor(component, path)
        case ExplainerSpec(art=art) if art is not None:
            if component.containers:
                yield forbidden(f"{path}.containers", "an explainer is either art or a container")
            yield from validate_container(art, f"{path}.art")
        case _ if not component.containers:
            yield required(f"{path}.containers", f"the {name} is the first container")
    yield from _validate_containers(component, path)


def _validate_predictor(predictor: PredictorSpec, path: str) -> Iterator[FieldError]:
    legacy = [name for name in LEGACY_FORMATS if getattr(predictor, name) is not None]
    if len(legacy) > 1:
        yield forbidden(path, f"exactly one model is allowed, these are {len(legacy)}: {', '.join(legacy)}")
        return
    if predictor.model is None and not predictor.containers:
        yield required(f"{path}.model", "a predictor has a model or containers")
    if predictor.model is not None:
        others = [container.name for container in predictor.containers if container.name != TRANSFORMER_CONTAINER]
        if others:
            rule = f"beside model only {TRANSFORMER_CONTAINER} is allowed, not {', '.join(map(repr, others))}"
            yield forbidden(f"{path}.containers", f"{rule}; {_ONE_OF_TWO}")
            if not predictor.model.modelFormat.name:  # What is left of a model that was taken out: not worth a word.
                return
        yield from _validate_model(predictor.model, f"{path}.model")
    elif predictor.containers:
        yield from _validate_custom(predictor.containers[0], f"{path}.containers[0]")


def _validate_model(model: ModelSpec, path: str) -> Iterator[FieldError]:
    if model.name:
        yield forbidden(f"{path}.name", "the container of a model has a fixed name")
    if not model.modelFormat.name:
        yield required(f"{path}.modelFormat.name", "for example sklearn, xgboost, lightgbm, onnx, pytorch")
    if model.protocolVersion is not None and model.protocolVersion not in PROTOCOL_RANKS:
        yield not_supported(f"{path}.protocolVersion", model.protocolVersion, PROTOCOL_RANKS)
    yield from validate_container(model, path)


def _validate_custom(container: Container, path: str) -> Iterator[FieldError]:
    for position, variable in enumerate(container.env):
        if variable.name == "PROTOCOL" and variable.valueFrom is None and variable.value not in _CUSTOM_PROTOCOLS:
            yield not_supported(f"{path}.env[{position}].value", variable.value or "", _CUSTOM_PROTOCOLS)


def _validate_containers(component: ComponentSpec, path: str) -> Iterator[FieldError]:
    seen: set[str] = set()
    for field in ("containers", "initContainers"):
        for position, container in enumerate(getattr(component, field)):
            where = f"{path}.{field}[{position}]"
            if container.name and container.name in seen:
                yield duplicate(f"{where}.name", container.name)
            seen.add(container.name)
            yield from validate_container(container, where)
            if container.name == TRANSFORMER_CONTAINER and any(v.name == STORAGE_URI_ENV for v in container.env):
                yield forbidden(f"{where}.env", f"{STORAGE_URI_ENV} belongs to the container of the model")


def validate_container(container: Container, path: str) -> Iterator[FieldError]:
    """All that is wrong with one container, of the rules that need no cluster."""
    for position, variable in enumerate(container.env):
        if not variable.name:
            yield required(f"{path}.env[{position}].name")
        elif variable.name == FORBIDDEN_ENV:
            why = f"{FORBIDDEN_ENV} in container {container.name!r} would change which code its server imports"
            yield forbidden(f"{path}.env[{position}]", why)
    requests, limits = container.resources.requests, container.resources.limits
    for kind, amounts in (("requests", requests), ("limits", limits)):
        for name, amount in amounts.items():
            if not _is_quantity(amount):
                yield invalid(f"{path}.resources.{kind}[{name}]", amount, "must be a quantity such as 500m or 2Gi")
    for name, request in requests.items():
        limit = limits.get(name)
        if limit is None or not (_is_quantity(request) and _is_quantity(limit)):
            continue
        if parse_quantity(request) > parse_quantity(limit):
            yield invalid(f"{path}.resources.requests[{name}]", request, f"must be at most the limit of {limit}")


def _is_quantity(value: str | float) -> bool:
    try:
        return parse_quantity(value) >= 0
    except ValueError:
        return False
