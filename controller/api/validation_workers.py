"""Whether a model over several nodes holds together: KServe's rules for `workerSpec` of services and of runtimes."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Final

import orjson
from pydantic import ValidationError

from controller.api.core import Container
from controller.api.field_errors import forbidden, invalid, required, type_errors
from controller.api.inferenceservice import MODEL_CONTAINER, InferenceService
from controller.api.servingruntime import ServingRuntime
from controller.api.validation_containers import validate_container
from controller.api.validation_scaling import AUTOSCALER_CLASS_ANNOTATION
from controller.base.errors import FieldError
from controller.base.json import JsonView

GPU_TYPES_ANNOTATION: Final = "serving.kserve.io/gpu-resource-types"
"""A JSON list of further resources that count as GPUs."""
GPU_TYPES: Final = ("nvidia.com/gpu", "amd.com/gpu", "intel.com/gpu", "habana.ai/gaudi")
"""What KServe knows as GPUs."""
_MIG_PREFIX: Final = "nvidia.com/mig"
"""Slices of an NVIDIA GPU have a name for each size."""
_NO_GPUS: Final = frozenset({"cpu", "memory", "storage", "ephemeral-storage"})
_PARALLEL_ENV: Final = frozenset({"PIPELINE_PARALLEL_SIZE", "TENSOR_PARALLEL_SIZE"})
_NOT_SCALED: Final = 'with workerSpec it must be "none": nothing scales a model over several nodes'
_SOURCES: Final = ("pvc://", "oci://")
"""Sources that every node can mount; a download would be made once for each."""


def validate_service_workers(
    service: InferenceService, path: str, configured: Iterable[str] = ()
) -> Iterator[FieldError]:
    """All that is wrong with the predictor's workers; `configured`: GPU types of inferenceservice-config."""
    predictor, annotations = service.spec.predictor, service.metadata.annotations
    if predictor.workerSpec is None:
        return
    yield from _validate_workers(predictor.workerSpec, f"{path}.workerSpec")
    known = yield from _known_gpu_types(annotations, "metadata.annotations", configured)
    for where, worker in _containers(predictor.workerSpec, f"{path}.workerSpec"):
        yield from _validate_gpu_types(worker, where, known)
    model = predictor.model
    if model is None:
        return
    for position, variable in enumerate(model.env):
        if variable.name in _PARALLEL_ENV:
            yield forbidden(f"{path}.model.env[{position}]", f"{variable.name} follows from workerSpec")
    yield from _validate_gpu_types(model, f"{path}.model", known)
    if not (model.storageUri or "").startswith(_SOURCES):
        yield invalid(f"{path}.model.storageUri", model.storageUri or "", "with workerSpec it must be pvc:// or oci://")
    autoscaler, field = (
        annotations.get(AUTOSCALER_CLASS_ANNOTATION),
        f"metadata.annotations[{AUTOSCALER_CLASS_ANNOTATION}]",
    )
    if autoscaler is None:
        yield required(field, _NOT_SCALED)
    elif autoscaler != "none":
        yield invalid(field, autoscaler, _NOT_SCALED)


def validate_runtime_workers(
    runtime: ServingRuntime, old: ServingRuntime | None, configured: Iterable[str] = ()
) -> Iterator[FieldError]:
    """All that is wrong with a runtime's workers, and with taking them away from the `old` one."""
    workers, path = runtime.spec.workerSpec, "spec.workerSpec"
    if workers is None:
        if old is not None and old.spec.workerSpec is not None:
            yield required(path, "it cannot be removed from a runtime that had it")
        return
    if not workers.get("containers"):
        yield required(f"{path}.containers", "the worker is the one container")
    yield from _validate_workers(workers, path)
    known = yield from _known_gpu_types(runtime.spec.annotations, "spec.annotations", configured)
    for where, worker in _containers(workers, path):
        yield from _validate_gpu_types(worker, where, known)
    for position, container in enumerate(runtime.spec.containers):
        where = f"spec.containers[{position}]"
        if any(variable.name in _PARALLEL_ENV for variable in container.env):
            yield forbidden(f"{where}.env", "the parallel sizes follow from workerSpec")
        if container.name == MODEL_CONTAINER:
            yield from _validate_gpu_types(container, where, known)


def _validate_workers(workers: JsonView, path: str) -> Iterator[FieldError]:
    if len(workers.get("containers") or ()) > 1:
        yield invalid(f"{path}.containers", len(workers["containers"]), "must be at most one container")
    for name in ("pipelineParallelSize", "tensorParallelSize"):
        size = workers.get(name)
        if size is not None and size < 1:
            yield invalid(f"{path}.{name}", size, "must be 1 or more")
    for field in ("containers", "initContainers"):
        for position, worker in enumerate(workers.get(field) or ()):
            where = f"{path}.{field}[{position}]"
            try:
                yield from validate_container(Container.parse(worker), where)
            except ValidationError as error:
                yield from (FieldError(field=f"{where}.{e.field}", message=e.message) for e in type_errors(error))


def _containers(workers: JsonView, path: str) -> Iterator[tuple[str, Container]]:
    """The workers that can be read, with their fields; what is wrong with the others is said elsewhere."""
    for position, worker in enumerate(workers.get("containers") or ()):
        try:
            yield f"{path}.containers[{position}]", Container.parse(worker)
        except ValidationError:
            continue


def _known_gpu_types(
    annotations: Mapping[str, str], path: str, configured: Iterable[str]
) -> Generator[FieldError, None, tuple[str, ...]]:
    """Yields what is wrong with the annotation; returns the resources that count as GPUs."""
    known = [*GPU_TYPES, *configured]
    text = annotations.get(GPU_TYPES_ANNOTATION, "")
    if text:
        try:
            named = orjson.loads(text)
        except orjson.JSONDecodeError:
            named = None
        if isinstance(named, list) and named and all(isinstance(item, str) and item for item in named):
            known += named
        else:
            yield invalid(f"{path}[{GPU_TYPES_ANNOTATION}]", text, 'must be a JSON list such as ["example.com/gpu"]')
    return tuple(dict.fromkeys(known))


def _validate_gpu_types(container: Container, path: str, known: Iterable[str]) -> Iterator[FieldError]:
    for field in ("limits", "requests"):
        for name in getattr(container.resources, field):
            if name in _NO_GPUS or name in known or name.startswith(_MIG_PREFIX):
                continue
            rule = (
                f"must be a GPU that is known here ({', '.join(known)}) or named in annotation {GPU_TYPES_ANNOTATION}"
            )
            yield invalid(f"{path}.resources.{field}[{name}]", name, rule)
