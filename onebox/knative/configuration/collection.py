"""Which revisions of a Configuration have outlived their use (pure).

In use, and never collected: the latest ready one, those that a Route names or may name soon, and those whose owner asked
for it. Of the others, the ones that are old by both clocks go until the least number remains; past the greatest number the
oldest go whatever their age.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from controller.api.knative import Configuration, Revision
from controller.base.clock import parse_rfc3339
from controller.base.names import ROUTING_STATE_LABEL
from onebox.knative.names import NO_GC_ANNOTATION, ROUTING_STATE_MODIFIED_ANNOTATION
from onebox.knative.route.routing import RESERVE
from onebox.knative.settings.collection import CollectionSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """What to delete now, and when to look again."""

    revisions: tuple[Revision, ...] = ()
    again_after_s: float | None = None
    """Seconds until the next revision is old enough; None: none will be."""


def plan_collection(
    configuration: Configuration, revisions: Sequence[Revision], settings: CollectionSettings, *, now_s: float
) -> Collection:
    """The revisions to delete, oldest first."""
    idle = sorted((found for found in revisions if not _in_use(found, configuration)), key=_active_s)
    surplus = len(idle) - settings.kept_min
    if surplus <= 0:
        return Collection()
    ages = {found.metadata.name: _stale_in_s(found, settings, now_s) for found in idle}
    stale = [found for found in idle if ages[found.metadata.name] == 0][:surplus]
    fresh = [found for found in idle if found not in stale]
    excess = len(fresh) - settings.kept_max if settings.kept_max is not None else 0
    waits = [wait_s for found in fresh if (wait_s := ages[found.metadata.name])]
    more = len(stale) < surplus and bool(waits)
    return Collection(revisions=(*stale, *fresh[: max(0, excess)]), again_after_s=min(waits) if more else None)


def _in_use(revision: Revision, configuration: Configuration) -> bool:
    meta = revision.metadata
    return (
        meta.name == configuration.status.latestReadyRevisionName
        or meta.annotations.get(NO_GC_ANNOTATION, "").lower() == "true"
        or meta.labels.get(ROUTING_STATE_LABEL) != RESERVE
        or meta.deletionTimestamp is not None
    )


def _active_s(revision: Revision) -> float:
    """When the revision was last in use; its creation where nobody wrote that down."""
    modified = revision.metadata.annotations.get(ROUTING_STATE_MODIFIED_ANNOTATION)
    try:
        return parse_rfc3339(modified or revision.metadata.creationTimestamp or "")
    except ValueError:
        return 0.0


def _stale_in_s(revision: Revision, settings: CollectionSettings, now_s: float) -> float | None:
    """Seconds until the revision is old by every clock that counts, 0 where it is; None where no clock does."""
    created_s = parse_rfc3339(revision.metadata.creationTimestamp) if revision.metadata.creationTimestamp else 0.0
    limits = [
        since_s + retain_s
        for since_s, retain_s in (
            (created_s, settings.retain_since_create_s),
            (_active_s(revision), settings.retain_since_active_s),
        )
        if retain_s is not None
    ]
    return max(0.0, max(limits) - now_s) if limits else None
