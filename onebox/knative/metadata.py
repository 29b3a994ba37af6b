"""Labels and annotations on their way from an object to its children (pure)."""

from __future__ import annotations

from collections.abc import Mapping

from controller.api.knative import Revision
from controller.base.names import (
    LAST_APPLIED_ANNOTATION,
    REVISION_LABEL,
    REVISION_UID_LABEL,
    ROUTE_LABEL,
    ROUTING_STATE_LABEL,
)
from onebox.knative.names import (
    APP_LABEL,
    AUTOSCALING_PREFIX,
    CLASS_ANNOTATION,
    LAST_PINNED_ANNOTATION,
    METRIC_ANNOTATION,
    NO_GC_ANNOTATION,
    ROUTES_ANNOTATION,
    ROUTING_STATE_MODIFIED_ANNOTATION,
)

_ROUTING_LABELS = frozenset({ROUTE_LABEL, ROUTING_STATE_LABEL})
_ROUTING_ANNOTATIONS = frozenset(
    {LAST_PINNED_ANNOTATION, NO_GC_ANNOTATION, ROUTING_STATE_MODIFIED_ANNOTATION, ROUTES_ANNOTATION}
)

StringMap = Mapping[str, str]


def without(entries: StringMap, *keys: str) -> dict[str, str]:
    """A copy without these keys."""
    return {key: value for key, value in entries.items() if key not in keys}


def passed_on(annotations: StringMap, *keys: str) -> dict[str, str]:
    """The annotations that a child of a Service or Route gets: not kubectl's memory of what was applied, nor `keys`."""
    return without(annotations, LAST_APPLIED_ANNOTATION, *keys)


def revision_labels(revision: Revision) -> dict[str, str]:
    """The labels of all that is made from a revision; routing comes and goes without touching it."""
    meta = revision.metadata
    labels = {key: value for key, value in meta.labels.items() if key not in _ROUTING_LABELS}
    labels |= {REVISION_LABEL: meta.name, REVISION_UID_LABEL: meta.uid}
    return {APP_LABEL: meta.name, **labels}


def workload_annotations(revision: Revision) -> dict[str, str]:
    """The annotations of the Deployment and its pods: how the revision scales is no reason to restart a pod."""
    annotations = revision.metadata.annotations
    return {
        key: value
        for key, value in annotations.items()
        if key not in _ROUTING_ANNOTATIONS and not key.startswith(AUTOSCALING_PREFIX)
    }


def service_annotations(revision: Revision, autoscaler_class: str) -> dict[str, str]:
    """The annotations of the revision's Services: those that its autoscaler and its ServerlessService would have."""
    annotations = {CLASS_ANNOTATION: autoscaler_class, **revision.metadata.annotations}
    return {
        key: value for key, value in annotations.items() if key not in _ROUTING_ANNOTATIONS and key != METRIC_ANNOTATION
    }
