"""Whether a ServingRuntime can be stored: for itself, and beside the others of its scope (spec/kserve.md 1.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydantic import ValidationError

from controller.api.admission import AdmissionRequest, Admit, Operation
from controller.api.defaulting import SHIPPED, Defaults
from controller.api.field_errors import invalid, required, type_errors
from controller.api.servingruntime import ServingRuntime, SupportedModelFormat
from controller.api.validation_containers import validate_container
from controller.api.validation_workers import validate_runtime_workers
from controller.base.errors import FieldError, Invalid
from controller.base.json import JsonObject, JsonView


def serving_runtime_admission(defaults: Defaults = SHIPPED) -> Admit:
    """Admission of both kinds of runtime by these settings; it stores what was offered."""

    def admit(request: AdmissionRequest) -> JsonObject:
        if request.operation is Operation.DELETE or request.subresource:
            return dict(request.object)
        try:
            runtime = ServingRuntime.parse(request.object)
            old = ServingRuntime.parse(request.old) if request.old else None
        except ValidationError as error:
            raise Invalid(type_errors(error)) from None
        errors = list(validate_serving_runtime(runtime, old, others=_readable(request.others), defaults=defaults))
        if errors and not runtime.metadata.deletionTimestamp:
            raise Invalid(errors)
        return dict(request.object)

    return admit


admit_serving_runtime: Admit = serving_runtime_admission()
"""Admission by the settings that KServe ships."""


def validate_serving_runtime(
    runtime: ServingRuntime,
    old: ServingRuntime | None = None,
    *,
    others: Iterable[ServingRuntime] = (),
    defaults: Defaults = SHIPPED,
) -> Iterator[FieldError]:
    """All that is wrong with a runtime beside `others` of its kind and namespace; a disabled one may be unfinished."""
    if runtime.spec.disabled:
        return
    yield from _validate_formats(runtime)
    yield from _validate_priorities(runtime, others)
    if not runtime.spec.containers:
        yield required("spec.containers", "a runtime without a container cannot run")
    for position, container in enumerate(runtime.spec.containers):
        yield from validate_container(container, f"spec.containers[{position}]")
    yield from validate_runtime_workers(runtime, old, defaults.gpu_types)


def _readable(manifests: Iterable[JsonView]) -> Iterator[ServingRuntime]:
    """Those that can be read: a broken neighbour, stored before there was admission, is no reason to refuse a good runtime."""
    for manifest in manifests:
        try:
            yield ServingRuntime.parse(manifest)
        except ValidationError:
            continue


def _validate_formats(runtime: ServingRuntime) -> Iterator[FieldError]:
    priorities: dict[str, int | None] = {}
    for position, entry in enumerate(runtime.spec.supportedModelFormats):
        if not entry.autoSelect:
            continue
        first = priorities.setdefault(entry.name, entry.priority)
        if None not in (first, entry.priority) and first != entry.priority:
            rule = f"all entries of format {entry.name} must have the same priority"
            yield invalid(f"spec.supportedModelFormats[{position}].priority", entry.priority, rule)


def _validate_priorities(runtime: ServingRuntime, others: Iterable[ServingRuntime]) -> Iterator[FieldError]:
    """Formats that another runtime serves with the same priority: which of the two is taken would be chance."""
    for other in sorted(others, key=lambda item: item.metadata.name):
        if not _competes(runtime, other):
            continue
        for position, entry in enumerate(runtime.spec.supportedModelFormats):
            if other.missing_for(entry.name):
                continue  # It cannot run here, and is taken only after all that can.
            if any(_ties(entry, theirs) for theirs in other.spec.supportedModelFormats):
                name = f"{entry.name} {entry.version}" if entry.version else entry.name
                rule = (
                    f"{other.kind} {other.metadata.name} has the same priority for format {name}; take another number"
                )
                yield invalid(f"spec.supportedModelFormats[{position}].priority", entry.priority, rule)


def _competes(runtime: ServingRuntime, other: ServingRuntime) -> bool:
    """Whether both could be selected for one model. As in KServe, a runtime that names no protocol competes with none."""
    return (
        other.metadata.name != runtime.metadata.name
        and not other.spec.disabled
        and other.spec.multiModel == runtime.spec.multiModel
        and bool(set(other.spec.protocolVersions) & set(runtime.spec.protocolVersions))
    )


def _ties(entry: SupportedModelFormat, other: SupportedModelFormat) -> bool:
    return (
        entry.autoSelect
        and other.autoSelect
        and entry.name.lower() == other.name.lower()
        and entry.version == other.version
        and entry.priority is not None
        and entry.priority == other.priority
    )
