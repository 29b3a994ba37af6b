"""How a component's requests are split between revisions, and which revision counts as the stable one. (pure)

Knative knows revisions and percents; which of them is stable is remembered in the service's status: `latestRolledoutRevision`
is the newest revision that had all traffic once it was ready. The rules are KServe's (spec/kserve.md 2.6) but for one: a
revision that has just been asked for is never mistaken for one that has been rolled back (KServe's issue 2130).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from controller.api.inferenceservice import ComponentSpec, ComponentStatus
from controller.api.knative import Service, TrafficTarget, is_ready

TAG_ROUTING_ANNOTATION: Final = "serving.kserve.io/enable-tag-routing"
LATEST_TAG: Final = "latest"
PREVIOUS_TAG: Final = "prev"


def split_traffic(
    spec: ComponentSpec, status: ComponentStatus, annotations: Mapping[str, str]
) -> tuple[TrafficTarget, ...]:
    """The targets of a component's Knative Service; their percents sum to 100."""
    percent, stable = spec.canaryTrafficPercent, status.latestRolledoutRevision
    if percent is None or not stable:  # The first revision gets everything: there is nothing to fall back to.
        percent = 100
    tagged = annotations.get(TAG_ROUTING_ANNOTATION, "").lower() == "true"
    latest = TrafficTarget(latestRevision=True, percent=percent)
    if tagged:
        latest = latest.replace(tag=LATEST_TAG)
    if percent == 100:
        return (latest,)
    return latest, TrafficTarget(revisionName=stable, latestRevision=False, percent=100 - percent, tag=PREVIOUS_TAG)


def _pinned(targets: Iterable[TrafficTarget]) -> str | None:
    """The revision that a split keeps beside the latest one."""
    return next((target.revisionName for target in targets if target.tag == PREVIOUS_TAG), None)


def follow_rollout(status: ComponentStatus, live: Service) -> ComponentStatus:
    """The component's status with the stable revision as the Knative Service shows it now."""
    targets = live.status.traffic or []
    ready = live.status.latestReadyRevisionName
    kept, asked = _pinned(targets), _pinned(live.spec.traffic)
    if not status.latestRolledoutRevision and kept:  # The status was lost; the split itself says what was stable.
        status = status.replace(latestRolledoutRevision=kept)
    elif asked and status.latestRolledoutRevision == ready:
        # Rolled back already: the split was written, and the status not yet, or not yet seen.
        status = status.replace(latestRolledoutRevision=asked)
    latest = next((t for t in targets if t.latestRevision and t.revisionName == ready), None)
    if not ready or latest is None:
        return status
    stable, previous = status.latestRolledoutRevision, status.previousRolledoutRevision
    if stable != ready and latest.percent == 100:
        changes: dict[str, str] = {"latestRolledoutRevision": ready}
        if stable:
            changes["previousRolledoutRevision"] = stable
        return status.replace(**changes)
    rolled_back = (
        previous
        and stable == ready == live.status.latestCreatedRevisionName
        and (latest.percent or 0) < 100
        and sum(target.percent or 0 for target in targets if target.revisionName == ready) == 100
        # Settled: while a new revision is on its way, the old one is shown as latest for a moment.
        and is_ready(live)
    )
    return status.replace(latestRolledoutRevision=previous) if rolled_back else status
