"""One revision under the autoscaler: its windows, what was decided, whether it is active (no I/O; the caller has the time)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from controller.base.json import JsonView
from controller.base.names import ROUTING_STATE_LABEL
from onebox.knative.autoscaler.decision import BURST_UNLIMITED, Decision, decide, initial_decision, initial_state
from onebox.knative.autoscaler.gate import ScalePlan, Scene, plan_scale, restored_state
from onebox.knative.autoscaler.report import Activity, ScaleReport
from onebox.knative.autoscaler.scaling import RevisionScaling
from onebox.knative.autoscaler.windows import Observed, RevisionWindows

SILENCE_S = 3.0
"""A revision without ready pods, of which the activator says nothing for this long, has no requests: three of its
reports are missing. A guess."""


STEPS_MAX = 4
"""Passes in a row over one revision: active, inactive, gone are two steps, and nothing needs more."""
PROXY_RETRY_S = 0.1
"""When the gateway is asked again whether it sends requests to the activator: it needs some ms for a change. A guess."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionView:
    """What scaling reads of a Revision and its Deployment."""

    uid: str
    annotations: Mapping[str, str]
    container_concurrency: int
    reachable: bool
    initialized: bool
    """It had its initial scale once: what a restarted autoscaler knows from the conditions."""
    replicas: int


def parse_revision(revision: JsonView, deployment: JsonView) -> RevisionView:
    """The view of a Revision with its Deployment."""
    replicas = (deployment.get("spec") or {}).get("replicas")
    replicas = 1 if replicas is None else int(replicas)  # Kubernetes' default.
    conditions = {item["type"]: item["status"] for item in (revision.get("status") or {}).get("conditions") or ()}
    return RevisionView(
        uid=revision["metadata"].get("uid", ""),
        annotations=revision["metadata"].get("annotations") or {},
        container_concurrency=int((revision.get("spec") or {}).get("containerConcurrency") or 0),
        reachable=_reachable(revision, conditions, deployment, replicas),
        initialized=conditions.get("ResourcesAvailable") == "True",
        replicas=replicas,
    )


def _reachable(revision: JsonView, conditions: Mapping[str, str], deployment: JsonView, replicas: int) -> bool:
    if (revision["metadata"].get("labels") or {}).get(ROUTING_STATE_LABEL) == "reserve":
        return False
    failed = "False" in (conditions.get("ResourcesAvailable"), conditions.get("ContainerHealthy"))
    # A broken revision need not be kept at its minimum: without one ready pod it serves nobody.
    return not (failed and replicas > 0 and not (deployment.get("status") or {}).get("readyReplicas"))


class RevisionScaler:
    """The autoscaler's memory of one revision."""

    def __init__(self, scaling: RevisionScaling, view: RevisionView, *, ready: int, now_s: float) -> None:
        self.scaling = scaling
        self.view = view
        self.decision: Decision = initial_decision(scaling.decider)
        self.activity = restored_state(initialized=view.initialized, replicas=view.replicas, now_s=now_s)
        self._memory = initial_state(scaling.decider, ready, now_s=now_s)
        self._windows = self._new_windows()
        self._recorded_s = now_s

    def configure(self, scaling: RevisionScaling, view: RevisionView, *, now_s: float) -> None:
        """Takes what the Revision and the settings say now; what was observed stays."""
        before, self.scaling, self.view = self.scaling, scaling, view
        if scaling.aggregation is not before.aggregation:
            self._windows = self._new_windows()
        self._windows.resize(scaling.stable_window_s, scaling.panic_window_s, now_s=now_s)

    def record(self, now_s: float, *, concurrency: float, rps: float) -> None:
        self._windows.record(now_s, concurrency=concurrency, rps=rps)
        self._recorded_s = now_s

    def decide(self, ready: int, now_s: float) -> bool:
        """Decides anew; whether the pods wanted, or who should take requests, changed with it."""
        self._hear_silence(ready, now_s)
        unheard = self.scaling.decider.target_burst_capacity != BURST_UNLIMITED
        if unheard and self._windows.is_empty(now_s):
            return False  # Nothing was heard of it for a whole window: what was decided stands.
        before = self.decision
        observed = self.observe(now_s)
        self.decision, self._memory = decide(
            self.scaling.decider, observed, ready=ready, state=self._memory, now_s=now_s
        )
        crossed = (before.excess_burst_capacity < 0) != (self.decision.excess_burst_capacity < 0)
        return crossed or before.desired != self.decision.desired

    def plan(self, ready: int, *, proxied_since_s: float | None, now_s: float) -> ScalePlan:
        """What to want and to write now; remembers the new state."""
        scene = Scene(
            desired=self.decision.desired,
            ready=ready,
            replicas=self.view.replicas,
            proxied_since_s=proxied_since_s,
            now_s=now_s,
        )
        plan = plan_scale(self.scaling, scene, self.activity)
        self.activity = plan.state
        return plan

    def report(self, plan: ScalePlan, ready: int) -> ScaleReport:
        return ScaleReport(
            want=plan.want,
            excess_burst_capacity=self.decision.excess_burst_capacity,
            activity=plan.state.activity,
            reason=plan.state.reason,
            message=plan.state.message,
            initialized=plan.state.initialized,
            ready=ready,
        )

    def observe(self, now_s: float) -> Observed:
        """The averages of both windows, of the metric that the revision scales on."""
        return self._windows.observe(self.scaling.decider.metric, now_s)

    @property
    def may_drop(self) -> bool:
        """Whether the last pod is about to go, if only requests do not depend on it."""
        idle = self.activity.activity is Activity.INACTIVE and self.decision.desired <= 0
        return idle and self.view.replicas > 0

    @property
    def panicking(self) -> bool:
        return self._memory.panic_since_s is not None

    def _hear_silence(self, ready: int, now_s: float) -> None:
        # Without pods there is nobody to scrape, and the activator forgets a revision whose last client gave up. A wish
        # for pods would then stand for ever; Knative forgets it only if a tick falls into one certain second.
        if ready == 0 and self.decision.desired > 0 and now_s - self._recorded_s >= SILENCE_S:
            self._windows.record(now_s, concurrency=0.0, rps=0.0)

    def _new_windows(self) -> RevisionWindows:
        return RevisionWindows(
            self.scaling.stable_window_s, self.scaling.panic_window_s, aggregation=self.scaling.aggregation
        )
