"""The activator's page: what it counted of each revision, and who is in it now."""

from __future__ import annotations

from collections.abc import Iterable

from controller.base.exposition import Family
from onebox.knative.activator.counts import RequestFamilies
from onebox.knative.activator.targets import Target


def collect_requests(targets: Iterable[Target]) -> Iterable[Family]:
    """The families of all revisions; one that had no request has two gauges."""
    families = RequestFamilies()
    for target in targets:
        throttle, labels = target.throttle, target.labels
        families.queued.add(labels, throttle.waiting)
        families.concurrency.add(labels, throttle.waiting + sum(pod.in_flight for pod in throttle.pods))
        target.counts.add_to(families, labels)
    return families.all()
