"""Which runtime serves a model: the one that its manifest names, or the best that its format fits. (pure)

The rules are KServe's (spec/kserve.md 3). Three differences: a refusal says what was asked for, what there is and what to
change; and where nothing speaks v1 and the manifest asks for no protocol, the next protocol is tried, so that a format whose
only runtime speaks v2 needs no `protocolVersion`; and a runtime whose server is not on this machine (annotation
ladle.dev/missing) comes after those that are.
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
RUNTIME_UNAVAILABLE: Final = "RuntimeUnavailable"
"""The runtime is known by name and its server is not on this machine; ours, not KServe's."""

_FIRST_PROTOCOL: Final = next(iter(PROTOCOL_RANKS))
"""What is asked for where the manifest does not say; what speaks none of the four was refused for another reason."""
_NOT_NAMED: Final = "the manifest names another one"
_LISTED_MAX: Final = 30
"""Names that a message lists at most. A guess: the shipped runtimes fit, a cluster with hundreds does not fill a screen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeChoice:
    runtime: ServingRuntime
    protocol: str
    """The protocol that the model is served by."""
    missing: str = ""
    """What to do instead where the runtime's server cannot run on this machine; "" where it can, and on a cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Considered:
    """One runtime, and what the selection made of it."""

    runtime: ServingRuntime
    against: str = ""
    """Why it was not taken; "" for the one that was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """All that there is to say about the choice of a runtime; either `choice` or `refusal` is there."""

    wanted: str
    """What the manifest asks for, in words."""
    considered: tuple[Considered, ...]
    """The one that was taken, those that would have done in the order of preference, then the others by name."""
    choice: RuntimeChoice | None = None
    why: str = ""
    """Why the choice was taken before the others."""
    refusal: UserError | None = None


def select_runtime(model: ModelSpec, runtimes: Sequence[ServingRuntime], *, multi_node: bool = False) -> RuntimeChoice:
    """The runtime for `model` among those of its namespace and of the cluster.

    UserError RuntimeNotRecognized, RuntimeDisabled or NoSupportingRuntime where there is none.
    """
    selection = explain_selection(model, runtimes, multi_node=multi_node)
    if selection.choice is None:
        assert selection.refusal is not None, "a selection without a choice has a refusal"
        raise selection.refusal
    return selection.choice


def explain_selection(model: ModelSpec, runtimes: Sequence[ServingRuntime], *, multi_node: bool = False) -> Selection:
    """The runtime for `model`, why it is the one, and why each of the others is not."""
    wanted = _wanted(model)
    if model.runtime:
        return _explain_named(model, model.runtime, runtimes)
    for protocol in [model.protocolVersion] if model.protocolVersion else PROTOCOL_RANKS:
        verdicts = [(r, _reason_against(r, model, protocol, multi_node=multi_node)) for r in runtimes]
        fitting = sorted(
            (runtime for runtime, against in verdicts if not against),
            key=lambda runtime: [key for key, _ in _precedence(runtime, model.modelFormat.name)],
        )
        if not fitting:
            continue
        best, *behind = fitting
        return Selection(
            wanted=wanted,
            considered=(
                Considered(runtime=best),
                *(Considered(runtime=r, against=_why_before(best, r, model.modelFormat.name)) for r in behind),
                *_by_name((r, against) for r, against in verdicts if against),
            ),
            choice=RuntimeChoice(runtime=best, protocol=protocol, missing=best.missing_for(model.modelFormat.name)),
            why=_why_chosen(best, behind, model, protocol),
        )
    protocol = model.protocolVersion or _FIRST_PROTOCOL
    against = ((r, _reason_against(r, model, protocol, multi_node=multi_node)) for r in runtimes)
    refusal = UserError(NO_SUPPORTING_RUNTIME, _explain(model, runtimes, multi_node=multi_node))
    return Selection(wanted=wanted, considered=_by_name(against), refusal=refusal)


def _explain_named(model: ModelSpec, name: str, runtimes: Sequence[ServingRuntime]) -> Selection:
    try:
        choice = _named(model, name, runtimes)
    except UserError as error:
        against = ((r, error.message if r.metadata.name == name else _NOT_NAMED) for r in runtimes)
        return Selection(wanted=_wanted(model), considered=_by_name(against), refusal=error)
    others = (
        (r, "the ServingRuntime of this namespace hides it" if r.metadata.name == name else _NOT_NAMED)
        for r in runtimes
        if r is not choice.runtime
    )
    return Selection(
        wanted=_wanted(model),
        considered=(Considered(runtime=choice.runtime), *_by_name(others)),
        choice=choice,
        why="the manifest names it",
    )


def _by_name(verdicts: Iterable[tuple[ServingRuntime, str]]) -> tuple[Considered, ...]:
    ordered = sorted(verdicts, key=lambda item: (item[0].metadata.name, item[0].kind))
    return tuple(Considered(runtime=runtime, against=against) for runtime, against in ordered)


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
    return RuntimeChoice(runtime=found, protocol=protocol, missing=found.missing_for(model.modelFormat.name))


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


def _precedence(runtime: ServingRuntime, format_name: str) -> tuple[tuple[float | str, str], ...]:
    """What decides between runtimes that fit, the weightiest first, as sort keys with their words: the smaller comes first."""
    priority, missing = _priority(runtime, format_name), runtime.missing_for(format_name)
    return (
        (float(runtime.kind != KIND), "of this namespace" if runtime.kind == KIND else "of the cluster"),
        (float(bool(missing)), "without a server on this machine" if missing else "with a server on this machine"),
        (-float(priority), f"priority {priority} for {format_name}" if priority else f"no priority for {format_name}"),
        (float(_protocol_rank(runtime)), f"first protocol {runtime.lowest_protocol() or 'unnamed'}"),
        (-_created_s(runtime), f"created {runtime.metadata.creationTimestamp or 'at no known time'}"),
        (runtime.metadata.name, f"name {runtime.metadata.name}"),
    )


def _why_before(best: ServingRuntime, other: ServingRuntime, format_name: str) -> str:
    """Why `other`, which would do as well, comes behind `best`."""
    mine, its = _criterion(best, other, format_name)
    return f"{its}, behind {best.metadata.name} ({mine})"


def _why_chosen(best: ServingRuntime, behind: Sequence[ServingRuntime], model: ModelSpec, protocol: str) -> str:
    asked = "" if model.protocolVersion else f" (the manifest asks for no protocolVersion, which reads as {protocol})"
    if not behind:
        return f"it is the only one that fits{asked}"
    mine, its = _criterion(best, behind[0], model.modelFormat.name)
    return f"{mine}, before {behind[0].metadata.name} ({its}){asked}"


def _criterion(left: ServingRuntime, right: ServingRuntime, format_name: str) -> tuple[str, str]:
    """The words of the first criterion in which two runtimes differ; the last is the name, which always does."""
    pairs = zip(_precedence(left, format_name), _precedence(right, format_name), strict=True)
    return next(((mine[1], its[1]) for mine, its in pairs if mine[0] != its[0]), ("it is listed first", "it is later"))


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
    asked = _wanted(model)
    protocol = model.protocolVersion or _FIRST_PROTOCOL
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


def _wanted(model: ModelSpec) -> str:
    protocol = f' with protocolVersion "{model.protocolVersion}"' if model.protocolVersion else ""
    return _shown(model.modelFormat) + protocol


def _shown(wanted: ModelFormat) -> str:
    return f'modelFormat "{wanted.name}"' + (f' version "{wanted.version}"' if wanted.version else "")


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(set(names))
    more = f" and {len(ordered) - _LISTED_MAX} more" if len(ordered) > _LISTED_MAX else ""
    return (", ".join(ordered[:_LISTED_MAX]) or "none") + more
