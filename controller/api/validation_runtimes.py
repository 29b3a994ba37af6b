"""Whether a ServingRuntime can be stored (spec/kserve.md 1.2). Conflicts between runtimes need the others, hence not here."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from controller.api.admission import AdmissionRequest, Operation
from controller.api.field_errors import forbidden, invalid, required, type_errors
from controller.api.servingruntime import ServingRuntime
from controller.api.validation_containers import validate_container
from controller.base.errors import FieldError, Invalid
from controller.base.json import JsonObject

_PARALLEL_ENV = frozenset({"PIPELINE_PARALLEL_SIZE", "TENSOR_PARALLEL_SIZE"})


def admit_serving_runtime(request: AdmissionRequest) -> JsonObject:
    """The runtime as it is to be stored, which is as it was offered; `Admit` for both kinds of runtime."""
    if request.operation is not Operation.DELETE and not request.subresource:
        try:
            runtime = ServingRuntime.parse(request.object)
            old = ServingRuntime.parse(request.old) if request.old else None
        except ValidationError as error:
            raise Invalid(type_errors(error)) from None
        errors = list(validate_serving_runtime(runtime, old))
        if errors:
            raise Invalid(errors)
    return dict(request.object)


def validate_serving_runtime(runtime: ServingRuntime, old: ServingRuntime | None = None) -> Iterator[FieldError]:
    """All that is wrong with a runtime; a disabled one may be unfinished, as in KServe."""
    if runtime.spec.disabled:
        return
    yield from _validate_formats(runtime)
    if not runtime.spec.containers:
        yield required("spec.containers", "a runtime without a container cannot run")
    for position, container in enumerate(runtime.spec.containers):
        yield from validate_container(container, f"spec.containers[{position}]")
    yield from _validate_workers(runtime, old)


def _validate_formats(runtime: ServingRuntime) -> Iterator[FieldError]:
    priorities: dict[str, int | None] = {}
    for position, entry in enumerate(runtime.spec.supportedModelFormats):
        if not entry.autoSelect:
            continue
        if entry.name in priorities and priorities[entry.name] != entry.priority:
            rule = f"all entries of format {entry.name} must have the same priority"
            yield invalid(f"spec.supportedModelFormats[{position}].priority", entry.priority, rule)
        priorities.setdefault(entry.name, entry.priority)


def _validate_workers(runtime: ServingRuntime, old: ServingRuntime | None) -> Iterator[FieldError]:
    workers = runtime.spec.workerSpec
    if workers is None:
        if old is not None and old.spec.workerSpec is not None:
            yield required("spec.workerSpec", "it cannot be removed from a runtime that had it")
        return
    if len(workers.get("containers") or ()) > 1:
        yield invalid("spec.workerSpec.containers", len(workers["containers"]), "must be at most one container")
    for name in ("pipelineParallelSize", "tensorParallelSize"):
        size = workers.get(name)
        if size is not None and size < 1:
            yield invalid(f"spec.workerSpec.{name}", size, "must be 1 or more")
    for position, container in enumerate(runtime.spec.containers):
        if any(variable.name in _PARALLEL_ENV for variable in container.env):
            yield forbidden(f"spec.containers[{position}].env", "the parallel sizes follow from workerSpec")
