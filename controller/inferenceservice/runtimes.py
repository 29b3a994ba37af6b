"""Which runtime serves a model: the one that its manifest names, or the best that its format fits. (pure)

The rules are KServe's (spec/kserve.md 3). Two differences: a refusal says what was asked for, what there is and what to
change; and where nothing speaks v1 and the manifest asks for no protocol, the next protocol is tried, so that a format whose
only runtime speaks v2 needs no `protocolVersion`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from controller.api.inferenceservice import ModelFormat, ModelSpec
from controller.api.servingruntime import CLUSTER_KIND, KIND, PROTOCOL_RANKS, ServingRuntime, SupportedModelFormat
from controller.base.clock import parse_rfc3339
from controller.base.errors import UserError

RUNTIME_NOT_RECOGNIZED: Final = "RuntimeNotRecognized"
RUNTIME_DISABLED: Final = "RuntimeDisabled"
NO_SUPPORTING_RUNTIME: Final = "NoSupportingRuntime"

_LISTED_MAX: Final = 30
"""Names that a message lists at most. A guess: the shipped runtimes fit, a cluster with hundreds does not fill a screen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeChoice:
    runtime: ServingRuntime
    protocol: str
    """The protocol that the model is served by."""


def select_runtime(model: ModelSpec, runtimes: Sequence[ServingRuntime], *, multi_node: bool = False) -> RuntimeChoice:
    """The runtime for `model` among those of its namespace and of the cluster.

    UserError RuntimeNotRecognized, RuntimeDisabled or NoSupportingRuntime where there is none.
    """
    if model.runtime:
        return _named(model, model.runtime, runtimes)
    for protocol in [model.protocolVersion] if model.protocolVersion else PROTOCOL_RANKS:
        for kind in (KIND, CLUSTER_KIND):  # Runtimes of the namespace win, whatever their priority.
            candidates = [
                runtime
                for runtime in runtimes
                if runtime.kind == kind and not _reason_against(runtime, model, protocol, multi_node=multi_node)
            ]
            if candidates:
                return RuntimeChoice(runtime=_best(candidates, model.modelFormat.name), protocol=protocol)
    raise UserError(NO_SUPPORTING_RUNTIME, _explain(model, runtimes, multi_node=multi_node))


def _named(model: ModelSpec, name: str, runtimes: Sequence[ServingRuntime]) -> RuntimeChoice:
    found = next(
        (r for kind in (KIND, CLUSTER_KIND) for r in runtimes if r.kind == kind and r.metadata.name == name), None
    )
    if found is None:
        there = _listed(runtime.metadata.name for runtime in runtimes if not runtime.spec.disabled)
        message = f'spec.predictor.model.runtime = "{name}": no ServingRuntime here and no ClusterServingRuntime has this name'
        raise UserError(RUNTIME_NOT_RECOGNIZED, f"{message}; there are: {there}")
    if found.spec.disabled:
        raise UserError(RUNTIME_DISABLED, f"{found.kind} {name} is disabled; enable it or name another runtime")
    protocol = model.protocolVersion or found.lowest_protocol() or "v1"
    if not _speaks(found, protocol):
        spoken = ", ".join(found.spec.protocolVersions)
        message = f'{found.kind} {name} does not speak protocolVersion "{protocol}", it speaks: {spoken}'
        raise UserError(NO_SUPPORTING_RUNTIME, message)
    # Every format of a runtime that was named counts, whether or not it may be selected by itself.
    if _label(model.modelFormat) not in _labels(found.spec.supportedModelFormats):
        formats = _listed(_labels(found.spec.supportedModelFormats))
        message = f"{found.kind} {name} does not support {_shown(model.modelFormat)}, it supports: {formats}"
        raise UserError(NO_SUPPORTING_RUNTIME, message)
    return RuntimeChoice(runtime=found, protocol=protocol)


def _reason_against(runtime: ServingRuntime, model: ModelSpec, protocol: str, *, multi_node: bool) -> str:
    """Why this runtime is no candidate; "" if it is one."""
    spec = runtime.spec
    if spec.disabled:
        return "it is disabled"
    if spec.multiModel:
        return "it serves several models in one pod"
    formats = [entry for entry in spec.supportedModelFormats if entry.name == model.modelFormat.name]
    if not formats:
        return "it does not know the format"
    if not any(entry.autoSelect for entry in formats):
        return f"it has to be named: spec.predictor.model.runtime: {runtime.metadata.name}"
    if _label(model.modelFormat) not in _labels(entry for entry in formats if entry.autoSelect):
        versions = ", ".join(sorted({entry.version for entry in formats if entry.version})) or "without a version"
        return f"it supports version {versions}, not {model.modelFormat.version}"
    if not _speaks(runtime, protocol):
        return f"it speaks {', '.join(spec.protocolVersions)}, not {protocol}"
    if (spec.workerSpec is not None) != multi_node:
        return "it spreads a model over nodes" if spec.workerSpec is not None else "it runs on one node only"
    return ""


def _best(candidates: Sequence[ServingRuntime], format_name: str) -> ServingRuntime:
    """The first by priority; among equals by the rank of its lowest protocol, then the newest, then by name."""
    # Sorted by one criterion after the other, the least important first: sorting is stable.
    by_name = sorted(candidates, key=lambda runtime: runtime.metadata.name)
    by_age = sorted(by_name, key=_created_s, reverse=True)
    by_protocol = sorted(by_age, key=_protocol_rank)
    return min(by_protocol, key=lambda runtime: -_priority(runtime, format_name))


def _created_s(runtime: ServingRuntime) -> float:
    created = runtime.metadata.creationTimestamp
    return parse_rfc3339(created) if created else 0.0


def _protocol_rank(runtime: ServingRuntime) -> int:
    lowest = runtime.lowest_protocol()
    return PROTOCOL_RANKS.get(lowest, len(PROTOCOL_RANKS) + 1) if lowest else len(PROTOCOL_RANKS) + 1


def _priority(runtime: ServingRuntime, format_name: str) -> int:
    formats = (entry for entry in runtime.spec.supportedModelFormats if entry.name == format_name)
    return next(formats).priority or 0


def _speaks(runtime: ServingRuntime, protocol: str) -> bool:
    return not runtime.spec.protocolVersions or protocol in runtime.spec.protocolVersions


def _label(wanted: ModelFormat) -> str:
    return f"{wanted.name}:{wanted.version}" if wanted.version else wanted.name


def _labels(formats: Iterable[SupportedModelFormat]) -> frozenset[str]:
    """What requests these entries match: the bare name always, with a version exactly that version."""
    return frozenset(
        label
        for entry in formats
        for label in (entry.name, *((f"{entry.name}:{entry.version}",) if entry.version else ()))
    )


def _explain(model: ModelSpec, runtimes: Sequence[ServingRuntime], *, multi_node: bool) -> str:
    asked = _shown(model.modelFormat)
    if model.protocolVersion:
        asked += f' with protocolVersion "{model.protocolVersion}"'
    # Unset, the protocol is v1 first; what speaks none of the four was refused for another reason.
    protocol = model.protocolVersion or next(iter(PROTOCOL_RANKS))
    near = [
        f"{runtime.metadata.name} ({_reason_against(runtime, model, protocol, multi_node=multi_node)})"
        for runtime in runtimes
        if any(entry.name == model.modelFormat.name for entry in runtime.spec.supportedModelFormats)
    ]
    if near:
        return f"no runtime serves {asked}; these come near: {_listed(near)}"
    formats = {
        entry.name for runtime in runtimes if not runtime.spec.disabled for entry in runtime.spec.supportedModelFormats
    }
    if not formats:
        return f"no runtime serves {asked}: no ServingRuntime or ClusterServingRuntime is installed"
    return f"no runtime serves {asked}; formats that runtimes here serve: {_listed(formats)}"


def _shown(wanted: ModelFormat) -> str:
    return f'modelFormat "{wanted.name}"' + (f' version "{wanted.version}"' if wanted.version else "")


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(set(names))
    more = f" and {len(ordered) - _LISTED_MAX} more" if len(ordered) > _LISTED_MAX else ""
    return (", ".join(ordered[:_LISTED_MAX]) or "none") + more
