"""Whether an InferenceService can be stored: KServe's rules (spec/kserve.md 1.1), and those that KServe should have.

What can never work is refused here, with the field; what depends on the cluster (which runtimes and storage containers exist)
is the controller's to say in a condition. `admit_inference_service` is what API server, webhook and command line call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from pydantic import ValidationError

from controller.api.admission import AdmissionRequest, Admit, Operation
from controller.api.defaulting import (
    DEPLOYMENT_MODE_ANNOTATION,
    DEPLOYMENT_MODES,
    KNATIVE_MODE,
    SHIPPED,
    STANDARD_MODE,
    Defaults,
    default_inference_service,
    normal_mode,
)
from controller.api.field_errors import duplicate, forbidden, invalid, not_supported, required, type_errors
from controller.api.inferenceservice import ComponentSpec, InferenceService, PredictorSpec
from controller.api.validation_containers import validate_implementation
from controller.api.validation_names import NAME, validate_service_name
from controller.api.validation_runtimes import admit_serving_runtime
from controller.api.validation_scaling import AUTOSCALER_CLASS_ANNOTATION, AUTOSCALER_CLASSES, validate_scaling
from controller.api.validation_storage import validate_storage
from controller.api.validation_workers import validate_service_workers
from controller.base.errors import FieldError, Invalid
from controller.base.json import JsonObject
from controller.base.names import NAME_LENGTH_MAX

__all__ = [
    "admit_inference_service",
    "admit_serving_runtime",
    "components",
    "inference_service_admission",
    "mode_of",
    "validate_inference_service",
]

TARGET_UTILIZATION_ANNOTATION: Final = "serving.kserve.io/targetUtilizationPercentage"
_LONGEST_SUFFIX: Final = {"predictor": "-predictor", "transformer": "-transformer", "explainer": "-explainer"}


def inference_service_admission(defaults: Defaults = SHIPPED) -> Admit:
    """Admission by these settings."""

    def admit(request: AdmissionRequest) -> JsonObject:
        if request.operation is Operation.DELETE or request.subresource:
            return dict(request.object)
        if (request.object.get("metadata") or {}).get("deletionTimestamp"):
            return dict(request.object)  # Nothing may stand in the way of an object that is on its way out.
        stored = default_inference_service(request.object, defaults)
        try:
            service = InferenceService.parse(stored)
            old = InferenceService.parse(default_inference_service(request.old, defaults)) if request.old else None
        except ValidationError as error:
            raise Invalid(type_errors(error)) from None
        errors = [*validate_inference_service(service, defaults), *(_validate_change(service, old) if old else ())]
        if errors:
            raise Invalid(errors)
        return stored

    return admit


admit_inference_service: Admit = inference_service_admission()
"""Admission by the settings that KServe ships."""


def validate_inference_service(service: InferenceService, defaults: Defaults = SHIPPED) -> Iterator[FieldError]:
    """All that is wrong with a defaulted service."""
    yield from _validate_name(service)
    yield from _validate_annotations(service)
    mode = mode_of(service)
    for name, component in components(service):
        path = f"spec.{name}"
        yield from _validate_component(name, component, path)
        yield from validate_scaling(component, path, mode=mode, annotations=service.metadata.annotations)
    yield from validate_service_workers(service, "spec.predictor", defaults.gpu_types)
    yield from _validate_canaries(service, mode)


def _validate_component(name: str, component: ComponentSpec, path: str) -> Iterator[FieldError]:
    yield from validate_implementation(name, component, path)
    yield from validate_storage(component, path)
    yield from _validate_extension(component, path)


def components(service: InferenceService) -> Iterator[tuple[str, ComponentSpec]]:
    """The components that a service has, with their names."""
    yield "predictor", service.spec.predictor
    if service.spec.transformer is not None:
        yield "transformer", service.spec.transformer
    if service.spec.explainer is not None:
        yield "explainer", service.spec.explainer


def mode_of(service: InferenceService) -> str:
    """The deployment mode that a service asks for by its annotation."""
    return normal_mode(service.metadata.annotations.get(DEPLOYMENT_MODE_ANNOTATION, KNATIVE_MODE))


def _validate_name(service: InferenceService) -> Iterator[FieldError]:
    name = service.metadata.name
    yield from validate_service_name(name)
    predictor_name = service.spec.predictor.name
    suffixes = [_LONGEST_SUFFIX[component] for component, _ in components(service)]
    if predictor_name:
        suffixes.append(f"-{predictor_name}-predictor")
        if not NAME.fullmatch(predictor_name):
            yield invalid("spec.predictor.name", predictor_name, f"must match {NAME.pattern}")
    longest = max(suffixes, key=len)
    if len(name) + len(longest) > NAME_LENGTH_MAX:
        # KServe accepts these, and Knative then refuses the child.
        length_max = NAME_LENGTH_MAX - len(longest)
        yield invalid("metadata.name", name, f"must have at most {length_max} characters, since {longest} is appended")


def _validate_annotations(service: InferenceService) -> Iterator[FieldError]:
    annotations = service.metadata.annotations
    mode = annotations.get(DEPLOYMENT_MODE_ANNOTATION)
    if mode is not None and mode not in DEPLOYMENT_MODES:
        yield not_supported(_annotation(DEPLOYMENT_MODE_ANNOTATION), mode, DEPLOYMENT_MODES)
    autoscaler = annotations.get(AUTOSCALER_CLASS_ANNOTATION)
    if autoscaler is not None and autoscaler not in AUTOSCALER_CLASSES:
        yield not_supported(_annotation(AUTOSCALER_CLASS_ANNOTATION), autoscaler, AUTOSCALER_CLASSES)
    utilization = annotations.get(TARGET_UTILIZATION_ANNOTATION)
    if utilization is not None and not (
        utilization.isascii() and utilization.isdigit() and 1 <= int(utilization) <= 100
    ):
        yield invalid(_annotation(TARGET_UTILIZATION_ANNOTATION), utilization, "must be a whole number in [1, 100]")


def _annotation(name: str) -> str:
    return f"metadata.annotations[{name}]"


def _validate_extension(component: ComponentSpec, path: str) -> Iterator[FieldError]:
    percent = component.canaryTrafficPercent
    if percent is not None and not 0 <= percent <= 100:
        yield invalid(f"{path}.canaryTrafficPercent", percent, "must be in [0, 100]")
    if component.timeout is not None and component.timeout < 0:
        yield invalid(f"{path}.timeout", component.timeout, "must be 0 or more seconds")
    if component.logger is not None:
        modes = ("all", "request", "response")
        if component.logger.mode not in modes:
            yield not_supported(f"{path}.logger.mode", component.logger.mode or "", modes)
        if component.logger.storage is not None:
            for name in ("path", "parameters", "key"):
                if not getattr(component.logger.storage, name):
                    yield required(f"{path}.logger.storage.{name}")
    if component.batcher is not None:
        for name in ("maxBatchSize", "maxLatency", "timeout"):
            value = getattr(component.batcher, name)
            if value is not None and value < 0:
                yield invalid(f"{path}.batcher.{name}", value, "must be 0 (the default) or more")


def _validate_canaries(service: InferenceService, mode: str) -> Iterator[FieldError]:
    canaries = service.spec.canary
    if canaries and mode != STANDARD_MODE:
        yield forbidden("spec.canary", "only services of deployment mode Standard have it; use canaryTrafficPercent")
        return
    if canaries and service.spec.predictor.model is None:
        yield required("spec.predictor.model", "a service with spec.canary needs a stable model")
    yield from _validate_canary_names(canaries, service.spec.predictor.name)
    for position, canary in enumerate(canaries):
        stable = service.spec.predictor.minReplicas
        yield from _validate_canary(canary, f"spec.canary[{position}].predictor", 1 if stable is None else stable)
    percents = [int(canary.get("trafficPercent") or 0) for canary in canaries]
    for position, percent in enumerate(percents):
        if not 0 <= percent <= 100:
            yield invalid(f"spec.canary[{position}].trafficPercent", percent, "must be in [0, 100]")
    if sum(percents) > 100:
        yield invalid("spec.canary", sum(percents), "the percents must sum to at most 100")


def _validate_canary_names(canaries: Iterable[JsonObject], stable: str | None) -> Iterator[FieldError]:
    seen = {stable}
    for position, canary in enumerate(canaries):
        predictor = canary.get("predictor") or {}
        path = f"spec.canary[{position}].predictor"
        name = predictor.get("name")
        if not name:
            yield required(f"{path}.name")
        elif name in seen:
            yield duplicate(f"{path}.name", name)
        seen.add(name)
        for field in ("workerSpec", "maxReplicas", "scaleTarget", "scaleMetric", "autoScaling"):
            if predictor.get(field) is not None:
                yield forbidden(f"{path}.{field}", "a canary has a fixed number of replicas")


def _validate_canary(canary: JsonObject, path: str, replicas_max: int) -> Iterator[FieldError]:
    """What is wrong with a canary's predictor for itself, and against the stable one's `minReplicas`."""
    try:
        predictor = PredictorSpec.parse(canary.get("predictor") or {})
    except ValidationError as error:
        yield from (FieldError(field=f"{path}.{e.field}", message=e.message, cause=e.cause) for e in type_errors(error))
        return
    yield from _validate_component("predictor", predictor, path)
    if (predictor.minReplicas or 0) > replicas_max:
        rule = f"must be at most minReplicas of the stable predictor, which is {replicas_max}"
        yield invalid(f"{path}.minReplicas", predictor.minReplicas, rule)


def _validate_change(service: InferenceService, old: InferenceService) -> Iterator[FieldError]:
    before, after = old.status.deploymentMode or mode_of(old), mode_of(service)
    if normal_mode(before) != after:
        rule = f"cannot be changed from {before} to {after}: delete the service and create it anew"
        yield invalid(_annotation(DEPLOYMENT_MODE_ANNOTATION), after, rule)
    renamed = service.spec.predictor.name != old.spec.predictor.name
    uris = [spec.predictor.model.storageUri if spec.predictor.model else None for spec in (service.spec, old.spec)]
    if renamed and uris[0] == uris[1]:
        yield forbidden("spec.predictor.name", "may change only together with the storage URI")
