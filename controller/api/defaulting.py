"""What an InferenceService says without saying it: the defaults that KServe's admission fills in (spec/kserve.md 1.1).

Admission stores the object with these defaults; the controller and the offline commands apply them again, so that an object
that no admission saw means the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from controller.api.inferenceservice import LEGACY_FORMATS, MODEL_CONTAINER, MODEL_DIRECTORY
from controller.api.quantity import parse_quantity
from controller.base.json import JsonObject, JsonView

DEPLOYMENT_MODE_ANNOTATION: Final = "serving.kserve.io/deploymentMode"
MODEL_FORMAT_ANNOTATION: Final = "modelFormat"
KNATIVE_MODE: Final = "Knative"
STANDARD_MODE: Final = "Standard"
MODELMESH_MODE: Final = "ModelMesh"
DEPLOYMENT_MODES: Final = (KNATIVE_MODE, STANDARD_MODE, MODELMESH_MODE)
_RENAMED_MODES: Final = {"Serverless": KNATIVE_MODE, "RawDeployment": STANDARD_MODE}

_V2_LEGACY_FORMATS: Final = frozenset({"triton", "onnx", "huggingface"})
"""Formats whose legacy key means protocol v2."""
_V2_FORMATS: Final = frozenset({"triton", "vLLM"})
"""Formats that mean protocol v2 also in `model`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """The parts of KServe's configuration that admission reads; the values are those that KServe ships."""

    deployment_mode: str = KNATIVE_MODE
    cpu_request: str = "1"
    cpu_limit: str = "1"
    memory_request: str = "2Gi"
    memory_limit: str = "2Gi"
    art_image_version: str = "latest"
    automount_token: bool = True
    gpu_types: tuple[str, ...] = ()
    """Resources that count as GPUs of a model over several nodes, beside those that KServe knows."""


SHIPPED: Final = Defaults()


def normal_mode(mode: str) -> str:
    """The current name of a deployment mode: Serverless became Knative, RawDeployment became Standard."""
    return _RENAMED_MODES.get(mode, mode)


def default_inference_service(manifest: JsonView, defaults: Defaults = SHIPPED) -> JsonObject:
    """`manifest` with all defaults; parts that do not change are shared with it. Applying it twice changes nothing more."""
    meta: JsonObject = {**(manifest.get("metadata") or {})}
    annotations: JsonObject = {**(meta.get("annotations") or {})}
    mode = annotations.get(DEPLOYMENT_MODE_ANNOTATION)
    if mode is not None:
        annotations[DEPLOYMENT_MODE_ANNOTATION] = normal_mode(mode)
    elif defaults.deployment_mode != KNATIVE_MODE:
        annotations[DEPLOYMENT_MODE_ANNOTATION] = defaults.deployment_mode
    spec: JsonObject = {**(manifest.get("spec") or {})}
    if annotations.get(DEPLOYMENT_MODE_ANNOTATION) != MODELMESH_MODE:
        spec["predictor"] = _with_model(spec.get("predictor") or {})
    for name in ("predictor", "transformer", "explainer"):
        if spec.get(name):
            spec[name] = _component(spec[name], defaults)
    format_name = ((spec.get("predictor") or {}).get("model") or {}).get("modelFormat", {}).get("name")
    if format_name:
        annotations.setdefault(MODEL_FORMAT_ANNOTATION, format_name)
    if annotations:
        meta["annotations"] = annotations
    return {**manifest, "metadata": meta, "spec": spec}


def _with_model(predictor: JsonView) -> JsonObject:
    """A predictor whose one legacy key has become `model`; with several the predictor stays as it is, and is refused."""
    legacy = [name for name in LEGACY_FORMATS if predictor.get(name) is not None]
    rest = {name: value for name, value in predictor.items() if name not in legacy}
    model: JsonObject
    if predictor.get("model") is not None:
        model = {**predictor["model"]}
        if (model.get("modelFormat") or {}).get("name") in _V2_FORMATS:
            model.setdefault("protocolVersion", "v2")
    elif len(legacy) == 1:
        model = {"modelFormat": {"name": legacy[0]}, **predictor[legacy[0]]}
        if legacy[0] in _V2_LEGACY_FORMATS:
            model.setdefault("protocolVersion", "v2")
    else:
        return {**predictor}
    # KServe stores both with every model, so a manifest that was stored by KServe compares equal.
    model.setdefault("name", "")
    return {**rest, "model": _with_container_defaults(model)}


def _component(component: JsonView, defaults: Defaults) -> JsonObject:
    changed: JsonObject = {**component}
    if component.get("containers"):
        changed["containers"] = _containers(component["containers"], defaults, custom=component.get("model") is None)
    if component.get("art") is not None:
        art = {**component["art"], "name": component["art"].get("name") or MODEL_CONTAINER}
        changed["art"] = {"runtimeVersion": defaults.art_image_version, **_with_all_resources(art, defaults)}
    if component.get("storageUris"):
        changed["storageUris"] = [{"mountPath": MODEL_DIRECTORY, **entry} for entry in component["storageUris"]]
    if not defaults.automount_token:
        changed.setdefault("automountServiceAccountToken", False)
    return changed


def _containers(containers: Sequence[JsonView], defaults: Defaults, *, custom: bool) -> list[JsonObject]:
    """The containers of a component; in a custom one the container that answers gets its name and all resources."""
    named = [_with_container_defaults(container) for container in containers]
    if not custom:
        return named
    main = next((i for i, container in enumerate(named) if container.get("name") == MODEL_CONTAINER), 0)
    if len(named) == 1 or not named[main].get("name"):
        named[main]["name"] = MODEL_CONTAINER
    named[main] = _with_all_resources(named[main], defaults)
    return named


def _with_container_defaults(container: JsonView) -> JsonObject:
    """The container with what Kubernetes' types write for every container; port 0 of a probe is the serving port."""
    changed: JsonObject = {"resources": {}, **container}
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        for action in ("httpGet", "tcpSocket"):
            if (changed.get(name) or {}).get(action) is not None:
                changed[name] = {**changed[name], action: {"port": 0, **changed[name][action]}}
    return changed


def _with_all_resources(container: JsonView, defaults: Defaults) -> JsonObject:
    resources: JsonObject = {**(container.get("resources") or {})}
    requests, limits = {**(resources.get("requests") or {})}, {**(resources.get("limits") or {})}
    for name, request, limit in (
        ("cpu", defaults.cpu_request, defaults.cpu_limit),
        ("memory", defaults.memory_request, defaults.memory_limit),
    ):
        # A default must not contradict what is given (KServe's does): no request above a given limit, no limit below a request.
        if name not in requests:
            requests[name] = _smaller(request, limits.get(name, request))
        if name not in limits:
            limits[name] = _larger(limit, requests[name])
    return {**container, "resources": {**resources, "requests": requests, "limits": limits}}


def _smaller(default: str, given: str | float) -> str | float:
    return given if _compare(given, default) < 0 else default


def _larger(default: str, given: str | float) -> str | float:
    return given if _compare(given, default) > 0 else default


def _compare(left: str | float, right: str | float) -> int:
    try:
        return int(parse_quantity(left).compare(parse_quantity(right)))
    except ValueError:  # No quantity: validation says so.
        return 0
