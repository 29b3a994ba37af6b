"""From the wished number to replicas: bounds, initial scale, the gate before zero, and whether a revision is active.

Pure; what Knative's PodAutoscaler reconciler does (spec/knative.md 2.6). The last pod goes in steps, each of which can be
taken back by a request: the revision becomes inactive, its requests are led to the activator, that is verified, and only
then replicas become 0. So a request finds either a pod or somebody who holds it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

from onebox.knative.autoscaler.decision import BURST_UNLIMITED
from onebox.knative.autoscaler.report import SCALE_UNKNOWN, Activity
from onebox.knative.autoscaler.scaling import RevisionScaling

_ACTIVATION_BUFFER_S = 30.0
"""Added to the progress deadline before an activation counts as failed; Knative's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityState:
    """The condition Active of one revision, and since when."""

    activity: Activity
    since_s: float
    reason: str = ""
    message: str = ""
    initialized: bool = False
    """The initial scale was reached once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What one pass looks at, read at one moment."""

    desired: int
    """The decision's; -1: none yet."""
    ready: int
    replicas: int
    """The Deployment's spec.replicas."""
    proxied_since_s: float | None = None
    """Since when requests verifiably go to the activator; None: they do not, or nobody looked yet."""
    now_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalePlan:
    want: int
    """Wanted pods; -1: unknown."""
    replicas: int | None
    """What to write to the Deployment; None: nothing."""
    state: ActivityState
    recheck_after_s: float | None = None
    """When this pass would come out differently although nothing else happens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gated:
    want: int
    applied: bool
    recheck_after_s: float | None = None


def restored_state(*, initialized: bool, replicas: int, now_s: float) -> ActivityState:
    """The state of a revision that is new, or new to a restarted autoscaler.

    Times start at `now_s`: a revision with pods is watched for a whole stable window before it can become inactive.
    """
    if replicas == 0:
        return _inactive(now_s, initialized=initialized)
    activity = Activity.ACTIVE if initialized else Activity.ACTIVATING
    return ActivityState(activity=activity, since_s=now_s, initialized=initialized)


def plan_scale(scaling: RevisionScaling, scene: Scene, state: ActivityState) -> ScalePlan:
    """What to want and write now, and the state after it."""
    gated = _gate(scaling, scene, state)
    state_after = _activity_after(scaling, scene, state, want=gated.want)
    write = gated.applied and gated.want != scene.replicas
    return ScalePlan(
        want=gated.want,
        replicas=gated.want if write else None,
        state=state_after,
        # A pass that changed the state looks at the world anew: the next step may be open already.
        recheck_after_s=0.0 if state_after.activity is not state.activity else gated.recheck_after_s,
    )


def _gate(scaling: RevisionScaling, scene: Scene, state: ActivityState) -> _Gated:
    if scene.desired < 0 and state.activity is not Activity.ACTIVATING:
        return _Gated(want=SCALE_UNKNOWN, applied=False)
    want = _bounded(scaling, scene.desired, initialized=state.initialized)
    if want > 0:
        return _Gated(want=want, applied=True)
    if not scaling.scale_to_zero:
        return _Gated(want=1, applied=True)
    in_state_s = scene.now_s - state.since_s
    match state.activity:
        case Activity.ACTIVATING:
            rest_s = scaling.progress_deadline_s + _ACTIVATION_BUFFER_S - in_state_s
            if rest_s < 0:
                return _Gated(want=0, applied=True)
            return _Gated(want=SCALE_UNKNOWN, applied=False, recheck_after_s=rest_s)
        case Activity.ACTIVE:
            rest_s = scaling.stable_window_s - in_state_s
            if rest_s <= 0:
                return _Gated(want=0, applied=False)
            return _Gated(want=1, applied=True, recheck_after_s=rest_s)
        case Activity.INACTIVE:
            return _last_pod(scaling, scene, in_state_s)
        case unreachable:
            assert_never(unreachable)


def _bounded(scaling: RevisionScaling, desired: int, *, initialized: bool) -> int:
    least, most = scaling.min_scale, scaling.max_scale
    if scaling.decider.initial_scale > 1 and not initialized and scaling.decider.reachable:
        least = max(least, scaling.decider.initial_scale)
    if desired < least:
        return least
    return most if 0 < most < desired else desired


def _last_pod(scaling: RevisionScaling, scene: Scene, inactive_s: float) -> _Gated:
    always_proxied = scaling.decider.target_burst_capacity == BURST_UNLIMITED
    if scene.proxied_since_s is None and not always_proxied:
        return _Gated(want=0, applied=False)  # Whoever verifies the path calls for another pass.
    if inactive_s >= max(scaling.grace_period_s, scaling.retention_s):
        return _Gated(want=0, applied=True)
    if inactive_s < scaling.retention_s:
        return _Gated(want=0, applied=False, recheck_after_s=scaling.retention_s - inactive_s)
    proxied_s = 0.0 if scene.proxied_since_s is None else scene.now_s - scene.proxied_since_s
    rest_s = scaling.grace_period_s - max(proxied_s, inactive_s)
    if scaling.grace_period_s <= proxied_s:
        return _Gated(want=0, applied=True)
    return _Gated(want=0, applied=False, recheck_after_s=rest_s)


def _activity_after(scaling: RevisionScaling, scene: Scene, state: ActivityState, *, want: int) -> ActivityState:
    enough = _enough(scaling, initialized=state.initialized)
    if scene.ready >= enough:
        state = replace(state, initialized=True)
    wanted = want > 0 or state.activity is not Activity.INACTIVE
    if want == 0 or enough == 0:
        timed_out = state.activity is Activity.ACTIVATING and enough > 0
        return _changed(state, _inactive(scene.now_s, initialized=state.initialized, timed_out=timed_out))
    if not wanted:
        return state
    if scene.ready < enough:
        queued = ActivityState(
            activity=Activity.ACTIVATING,
            since_s=scene.now_s,
            reason="Queued",
            message="Requests to the target are being buffered as resources are provisioned.",
            initialized=state.initialized,
        )
        return _changed(state, queued)
    return _changed(state, ActivityState(activity=Activity.ACTIVE, since_s=scene.now_s, initialized=state.initialized))


def _enough(scaling: RevisionScaling, *, initialized: bool) -> int:
    # Until the initial scale was there once, it is what counts; later one pod makes a revision active.
    return max(scaling.min_scale, 1 if initialized else scaling.decider.initial_scale)


def _inactive(now_s: float, *, initialized: bool, timed_out: bool = False) -> ActivityState:
    return ActivityState(
        activity=Activity.INACTIVE,
        since_s=now_s,
        reason="TimedOut" if timed_out else "NoTraffic",
        message="The target could not be activated." if timed_out else "The target is not receiving traffic.",
        initialized=initialized,
    )


def _changed(before: ActivityState, after: ActivityState) -> ActivityState:
    # A condition's time moves only when its status does. NoTraffic does not write over TimedOut: nothing new is known.
    if before.activity is not after.activity:
        return after
    if after.activity is Activity.INACTIVE:
        return replace(before, initialized=after.initialized)
    return replace(after, since_s=before.since_s)
