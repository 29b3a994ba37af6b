"""What one Configuration should lead to: the revision of its generation, and the names of the latest ones (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from controller.api.knative import API_VERSION, Configuration, Revision, is_ready
from controller.api.meta import owner_reference
from controller.base.clock import rfc3339
from controller.base.json import JsonObject
from controller.base.names import (
    CONFIGURATION_GENERATION_LABEL,
    CONFIGURATION_LABEL,
    CONFIGURATION_UID_LABEL,
    KSVC_LABEL,
    KSVC_UID_LABEL,
    ROUTING_STATE_LABEL,
    child_name,
)
from controller.kube.resources import REVISIONS
from controller.reconcile.plan import Child, Event, Plan
from onebox.knative.conditions import FALSE, READY, LivingConditions
from onebox.knative.names import (
    CREATOR_ANNOTATION,
    MODIFIER_ANNOTATION,
    ROUTES_ANNOTATION,
    ROUTING_STATE_MODIFIED_ANNOTATION,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationSnapshot:
    """All that one decision about a Configuration looks at."""

    configuration: Configuration
    revisions: tuple[Revision, ...]
    """Those that carry the Configuration's label, in any order."""
    named: Revision | None
    """The revision with the name that the template gives, whoever it belongs to."""
    now_s: float


def plan_configuration(snapshot: ConfigurationSnapshot) -> Plan:
    """Creates the revision that is missing, if any, and says how far it is."""
    configuration = snapshot.configuration
    conditions = LivingConditions((), configuration.status.conditions, now_s=snapshot.now_s)
    names = {
        "latestCreatedRevisionName": configuration.status.latestCreatedRevisionName or "",
        "latestReadyRevisionName": configuration.status.latestReadyRevisionName or "",
    }
    chosen = configuration.spec.template.metadata.name
    if snapshot.named is not None and not _is_ours(snapshot.named, configuration):
        message = f'Revision creation failed with message: revisions.serving.knative.dev "{chosen}" already exists.'
        conditions.mark_false(READY, "RevisionFailed", message)
        return Plan(keep_children=True, status=_status(configuration, conditions, names))
    current = snapshot.named or _of_generation(snapshot.revisions, configuration.metadata.generation)
    children: tuple[Child, ...] = ()
    if current is None:
        manifest = build_revision(configuration, now_s=snapshot.now_s)
        children = (Child(resource=REVISIONS, manifest=manifest),)
        names["latestCreatedRevisionName"] = manifest["metadata"]["name"]
    else:
        names["latestCreatedRevisionName"] = current.metadata.name
    events = _mark(conditions, names, snapshot, current)
    return Plan(children=children, status=_status(configuration, conditions, names), events=events)


def build_refused_status(configuration: Configuration, message: str, *, now_s: float) -> JsonObject:
    """The status of a Configuration whose revision the API server refused."""
    conditions = LivingConditions((), configuration.status.conditions, now_s=now_s)
    conditions.mark_false(READY, "RevisionFailed", f"Revision creation failed with message: {message}.")
    known = configuration.status
    names = {
        "latestCreatedRevisionName": known.latestCreatedRevisionName or "",
        "latestReadyRevisionName": known.latestReadyRevisionName or "",
    }
    return _status(configuration, conditions, names)


def build_revision(configuration: Configuration, *, now_s: float) -> JsonObject:
    """The revision of the Configuration's present generation."""
    meta, template = configuration.metadata, configuration.spec.template
    annotations = dict(template.metadata.annotations)
    if modifier := meta.annotations.get(MODIFIER_ANNOTATION):
        annotations[CREATOR_ANNOTATION] = modifier
    routes = meta.annotations.get(ROUTES_ANNOTATION)
    if routes:
        annotations[ROUTES_ANNOTATION] = routes
    annotations[ROUTING_STATE_MODIFIED_ANNOTATION] = rfc3339(now_s)
    inherited = {key: meta.labels[key] for key in (KSVC_LABEL, KSVC_UID_LABEL) if key in meta.labels}
    labels = {
        **template.metadata.labels,
        **inherited,
        CONFIGURATION_LABEL: meta.name,
        CONFIGURATION_GENERATION_LABEL: str(meta.generation),
        CONFIGURATION_UID_LABEL: meta.uid,
        ROUTING_STATE_LABEL: "active" if routes else "pending",
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "Revision",
        "metadata": {
            "name": template.metadata.name or child_name(meta.name, f"-{meta.generation:05d}"),
            "namespace": meta.namespace,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner_reference(configuration).to_json()],
        },
        "spec": template.spec.to_json(),
    }


def is_name_free(configuration: Configuration, named: Revision | None) -> bool:
    """Whether the revision that the template names does not exist, or is the one that the template describes."""
    return named is None or _is_ours(named, configuration)


def _is_ours(revision: Revision, configuration: Configuration) -> bool:
    owners = revision.metadata.ownerReferences
    if not any(owner.controller and owner.uid == configuration.metadata.uid for owner in owners):
        return False
    if _generation(revision) == configuration.metadata.generation:
        return True
    # A later edit that left the template alone (labels of the Configuration) still means this revision.
    return revision.spec.to_json() == configuration.spec.template.spec.to_json()


def _of_generation(revisions: Sequence[Revision], generation: int) -> Revision | None:
    return next((revision for revision in revisions if _generation(revision) == generation), None)


def _generation(revision: Revision) -> int:
    text = revision.metadata.labels.get(CONFIGURATION_GENERATION_LABEL, "")
    return int(text) if text.isdecimal() else 0


def _mark(
    conditions: LivingConditions, names: dict[str, str], snapshot: ConfigurationSnapshot, current: Revision | None
) -> tuple[Event, ...]:
    """Sets Ready and the latest ready revision."""
    created = names["latestCreatedRevisionName"]
    events: tuple[Event, ...] = ()
    if names["latestReadyRevisionName"] != created:
        conditions.mark_unknown(READY)
    failure = current.status.condition(READY) if current is not None else None
    if failure is not None and failure.status == FALSE:
        message = f'Revision "{created}" failed with message: {failure.message or ""}.'
        events = _failure_events(snapshot.configuration, message, names)
        conditions.mark_false(READY, "RevisionFailed", message)
    latest_ready = _latest_ready(snapshot)
    if latest_ready is not None:
        names["latestReadyRevisionName"] = latest_ready.metadata.name
        if latest_ready.metadata.name == created:
            conditions.mark_true(READY)
    elif _was_deleted(names, snapshot) and conditions.status(READY) != FALSE:
        gone = names["latestReadyRevisionName"]
        conditions.mark_false(READY, "RevisionDeleted", f'Revision "{gone}" was deleted.')
    return events


def _failure_events(configuration: Configuration, message: str, names: dict[str, str]) -> tuple[Event, ...]:
    before = configuration.status.condition(READY)
    if before is not None and before.status == FALSE and before.message == message:
        return ()
    created = names["latestCreatedRevisionName"]
    word = "Ready" if created == names["latestReadyRevisionName"] else "Created"
    failed = f'Latest {word.lower()} revision "{created}" has failed'
    return (Event(type="Warning", reason=f"Latest{word}Failed", message=failed),)


def _latest_ready(snapshot: ConfigurationSnapshot) -> Revision | None:
    """The newest revision that is Ready, from the latest ready one on: it never goes back to an older one."""
    configuration = snapshot.configuration
    known = configuration.status.latestReadyRevisionName
    before = next((revision for revision in snapshot.revisions if revision.metadata.name == known), None)
    oldest = _generation(before) if before is not None else 0
    named = configuration.spec.template.metadata.name
    candidates = [
        revision
        for revision in snapshot.revisions
        if is_ready(revision)
        and (oldest <= _generation(revision) <= configuration.metadata.generation or revision.metadata.name == named)
    ]
    return max(candidates, key=lambda found: (found.metadata.name == named, _generation(found)), default=None)


def _was_deleted(names: dict[str, str], snapshot: ConfigurationSnapshot) -> bool:
    known = names["latestReadyRevisionName"]
    exists = any(revision.metadata.name == known for revision in snapshot.revisions)
    return bool(known) and not exists and known != names["latestCreatedRevisionName"]


def _status(configuration: Configuration, conditions: LivingConditions, names: dict[str, str]) -> JsonObject:
    return {
        "observedGeneration": configuration.metadata.generation,
        "conditions": [condition.to_json() for condition in conditions.result()],
        **{name: value for name, value in names.items() if value},
    }
