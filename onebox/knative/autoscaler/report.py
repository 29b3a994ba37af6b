"""What the autoscaler tells the rest of the engine about each revision, in process.

Knative keeps these words in a PodAutoscaler and a ServerlessService object; one process needs no objects to talk to
itself, and writes those for others to see (pod_autoscaler). The autoscaler is the only writer. The revision reconciler reads
them for conditions and counts, and for whether a revision's public endpoints are its pods (Serve) or the activator (Proxy).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

SCALE_UNKNOWN = -1
"""No wish yet (just started, no data): whatever runs is left alone."""


class Activity(StrEnum):
    """The status of a revision's condition Active."""

    ACTIVE = "True"
    ACTIVATING = "Unknown"
    INACTIVE = "False"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleReport:
    """The autoscaler's word on one revision."""

    want: int = SCALE_UNKNOWN
    """Wanted pods after bounds and gate; -1: unknown."""
    excess_burst_capacity: int = 0
    """Below zero: the pods alone could not take the burst that target-burst-capacity asks for."""
    activity: Activity = Activity.ACTIVATING
    reason: str = ""
    """Of Active where it is not True: Queued, NoTraffic, TimedOut."""
    message: str = ""
    initialized: bool = False
    """The initial scale was reached once; stays True. Until then a revision is not Ready."""
    ready: int = 0
    """Ready pods that are not terminating, as the decision saw them."""

    @property
    def proxied(self) -> bool:
        """Whether requests have to go through the activator. (With no ready pod they have to in any case.)"""
        if self.want == SCALE_UNKNOWN:
            return self.activity is Activity.INACTIVE or self.excess_burst_capacity < 0
        return self.want == 0 or self.excess_burst_capacity < 0


OnReport = Callable[[str, str], None]
"""Called with the namespace and the name of the revision whose report changed."""


class ScaleBoard:
    """The latest report of every revision; one event loop, no waiting."""

    def __init__(self) -> None:
        self._reports: dict[tuple[str, str], ScaleReport] = {}
        self._subscribers: list[OnReport] = []

    def of(self, namespace: str, revision: str) -> ScaleReport | None:
        """The latest report, or None while the autoscaler has not seen this revision (treat as: leave things alone)."""
        return self._reports.get((namespace, revision))

    def subscribe(self, on_change: OnReport) -> None:
        self._subscribers.append(on_change)

    def publish(self, namespace: str, revision: str, report: ScaleReport) -> None:
        """Stores the report and tells the subscribers where it differs from the last one."""
        key = (namespace, revision)
        if self._reports.get(key) == report:
            return
        self._reports[key] = report
        for on_change in self._subscribers:
            on_change(namespace, revision)

    def forget(self, namespace: str, revision: str) -> None:
        self._reports.pop((namespace, revision), None)
