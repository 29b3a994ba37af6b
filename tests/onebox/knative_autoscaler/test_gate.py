"""The steps between a decision and replicas: bounds, initial scale, and the gate before zero (cases 36-46)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebox.knative.autoscaler.gate import ActivityState, ScalePlan, Scene, plan_scale, restored_state
from onebox.knative.autoscaler.report import Activity, ScaleReport
from onebox.knative.autoscaler.scaling import RevisionScaling, build_scaling
from onebox.knative.autoscaler.settings import AutoscalerSettings

PREFIX = "autoscaling.knative.dev/"
NOW_S = 10_000.0


def scaling(*, reachable: bool = True, settings: AutoscalerSettings | None = None, **words: object) -> RevisionScaling:
    """Knative's defaults with these annotations."""
    annotations = {PREFIX + word.replace("_", "-"): str(value) for word, value in words.items()}
    return build_scaling(annotations, 0, reachable=reachable, settings=settings or AutoscalerSettings())


def since(activity: Activity, seconds: float, *, initialized: bool = True) -> ActivityState:
    return ActivityState(activity=activity, since_s=NOW_S - seconds, initialized=initialized)


def plan(
    rules: RevisionScaling,
    state: ActivityState,
    *,
    desired: int = 0,
    ready: int | None = None,
    replicas: int = 1,
    proxied_s: float | None = None,
) -> ScalePlan:
    scene = Scene(
        desired=desired,
        ready=replicas if ready is None else ready,
        replicas=replicas,
        proxied_since_s=None if proxied_s is None else NOW_S - proxied_s,
        now_s=NOW_S,
    )
    return plan_scale(rules, scene, state)


def test_36_and_37_an_active_revision_keeps_one_pod_until_its_window_is_over() -> None:
    waiting = plan(scaling(), since(Activity.ACTIVE, 59))
    assert (waiting.want, waiting.replicas, waiting.recheck_after_s) == (1, None, 1)
    assert plan(scaling(), since(Activity.ACTIVE, 59), replicas=10).replicas == 1


def test_38_then_it_becomes_inactive_and_keeps_its_pod() -> None:
    after = plan(scaling(), since(Activity.ACTIVE, 60))
    assert (after.want, after.replicas) == (0, None)
    assert (after.state.activity, after.state.reason) == (Activity.INACTIVE, "NoTraffic")
    assert after.recheck_after_s == 0


def test_39_the_pod_goes_when_requests_go_to_the_activator() -> None:
    assert plan(scaling(), since(Activity.INACTIVE, 30), proxied_s=0).replicas == 0


def test_40_having_been_proxied_for_the_grace_period_is_enough() -> None:
    assert plan(scaling(), since(Activity.INACTIVE, 29), proxied_s=30).replicas == 0
    waiting = plan(scaling(), since(Activity.INACTIVE, 28), proxied_s=29)
    assert (waiting.want, waiting.replicas, waiting.recheck_after_s) == (0, None, 1)


def test_41_the_last_pod_is_retained() -> None:
    rules = scaling(scale_to_zero_pod_retention_period="60s")
    waiting = plan(rules, since(Activity.INACTIVE, 30), proxied_s=30)
    assert (waiting.replicas, waiting.recheck_after_s) == (None, 30)
    unreachable = scaling(reachable=False, scale_to_zero_pod_retention_period="60s")
    assert plan(unreachable, since(Activity.INACTIVE, 30), proxied_s=0).replicas == 0
    shorter = scaling(scale_to_zero_pod_retention_period="20s")
    assert plan(shorter, since(Activity.INACTIVE, 29), proxied_s=30).replicas == 0


def test_42_no_pod_goes_while_requests_may_still_come_to_it() -> None:
    waiting = plan(scaling(), since(Activity.INACTIVE, 3000), proxied_s=None)
    assert (waiting.want, waiting.replicas) == (0, None)
    always_proxied = scaling(target_burst_capacity=-1)
    assert plan(always_proxied, since(Activity.INACTIVE, 30), proxied_s=None).replicas == 0


def test_43_an_activation_fails_after_the_progress_deadline() -> None:
    waiting = plan(scaling(), since(Activity.ACTIVATING, 315), ready=0)
    assert (waiting.want, waiting.replicas, waiting.recheck_after_s) == (-1, None, 315)
    failed = plan(scaling(), since(Activity.ACTIVATING, 631), ready=0)
    assert failed.replicas == 0
    assert (failed.state.activity, failed.state.reason) == (Activity.INACTIVE, "TimedOut")
    kept = plan(scaling(), failed.state, ready=0, replicas=0)
    assert kept.state.reason == "TimedOut"


def test_the_progress_deadline_is_the_revisions_own() -> None:
    rules = build_scaling(
        {"serving.knative.dev/progress-deadline": "30s"}, 0, reachable=True, settings=AutoscalerSettings()
    )
    assert plan(rules, since(Activity.ACTIVATING, 61), ready=0).replicas == 0


def test_44_and_45_bounds_hold() -> None:
    assert plan(scaling(min_scale=2), since(Activity.ACTIVE, 3000), replicas=10).replicas == 2
    unreachable = scaling(min_scale=2, reachable=False)
    assert plan(unreachable, since(Activity.INACTIVE, 30), replicas=10, proxied_s=0).replicas == 0
    assert plan(scaling(max_scale=8), since(Activity.ACTIVE, 1), desired=10).replicas == 8


def test_46_without_data_nothing_changes() -> None:
    for activity in (Activity.ACTIVE, Activity.INACTIVE):
        nothing = plan(scaling(min_scale=5), since(activity, 3000), desired=-1, replicas=3)
        assert (nothing.want, nothing.replicas) == (-1, None)


def test_47_the_initial_scale_comes_first() -> None:
    rules = scaling(initial_scale=5)
    new = since(Activity.ACTIVATING, 1, initialized=False)
    coming = plan(rules, new, desired=1, ready=1)
    assert (coming.replicas, coming.state.activity, coming.state.reason) == (5, Activity.ACTIVATING, "Queued")
    there = plan(rules, new, desired=1, ready=5, replicas=5)
    assert (there.state.activity, there.state.initialized) == (Activity.ACTIVE, True)
    assert plan(rules, there.state, desired=1, ready=5, replicas=5).replicas == 1


def test_an_initial_scale_of_zero_needs_no_pod_at_all() -> None:
    rules = scaling(initial_scale=0, settings=AutoscalerSettings(allow_zero_initial_scale=True))
    fresh = plan(rules, restored_state(initialized=False, replicas=0, now_s=NOW_S), desired=-1, replicas=0)
    assert (fresh.state.activity, fresh.state.initialized, fresh.replicas) == (Activity.INACTIVE, True, None)


def test_scale_to_zero_may_be_switched_off() -> None:
    rules = scaling(settings=AutoscalerSettings(enable_scale_to_zero=False))
    assert plan(rules, since(Activity.INACTIVE, 3000), replicas=4, proxied_s=3000).replicas == 1


def test_a_first_request_brings_the_first_pod_and_the_pod_makes_it_active() -> None:
    woken = plan(scaling(), since(Activity.INACTIVE, 3000), desired=1, replicas=0)
    assert (woken.replicas, woken.state.activity) == (1, Activity.ACTIVATING)
    there = plan(scaling(), woken.state, desired=1, ready=1, replicas=1)
    assert (there.replicas, there.state.activity) == (None, Activity.ACTIVE)


def test_a_request_before_the_last_pod_has_gone_takes_it_all_back() -> None:
    back = plan(scaling(), since(Activity.INACTIVE, 29), desired=1, proxied_s=20)
    assert (back.want, back.replicas, back.state.activity) == (1, None, Activity.ACTIVE)


def test_an_activation_whose_client_gave_up_is_brought_to_its_end() -> None:
    going_on = plan(scaling(), since(Activity.ACTIVATING, 10), desired=0, ready=0)
    assert (going_on.want, going_on.replicas, going_on.state.activity) == (-1, None, Activity.ACTIVATING)
    there = plan(scaling(), going_on.state, desired=0, ready=1)
    assert there.state.activity is Activity.ACTIVE


def test_the_time_of_a_state_moves_only_when_the_state_does() -> None:
    state = since(Activity.ACTIVE, 30)
    assert plan(scaling(), state, desired=1).state.since_s == state.since_s


def test_a_restarted_autoscaler_watches_a_whole_window_before_anything_goes() -> None:
    restored = restored_state(initialized=True, replicas=2, now_s=NOW_S)
    assert plan(scaling(), restored, desired=0, replicas=2).replicas == 1
    assert restored_state(initialized=False, replicas=1, now_s=NOW_S).activity is Activity.ACTIVATING
    assert restored_state(initialized=True, replicas=0, now_s=NOW_S).activity is Activity.INACTIVE


@pytest.mark.parametrize(
    ("want", "excess", "activity", "proxied"),
    [
        (1, 0, Activity.ACTIVE, False),
        (1, -1, Activity.ACTIVE, True),
        (0, 5, Activity.INACTIVE, True),
        (-1, 0, Activity.INACTIVE, True),
        (-1, 0, Activity.ACTIVATING, False),
        (-1, -111, Activity.ACTIVE, True),
    ],
)
def test_who_takes_requests_follows_from_the_wish_and_the_burst(
    want: int, excess: int, activity: Activity, proxied: bool
) -> None:
    assert ScaleReport(want=want, excess_burst_capacity=excess, activity=activity).proxied is proxied


states = st.builds(since, st.sampled_from(Activity), st.floats(0, 1000), initialized=st.booleans())


@given(
    states,
    st.integers(-1, 50),
    st.integers(0, 20),
    st.integers(0, 20),
    st.tuples(st.integers(0, 5), st.integers(0, 5)),
    st.one_of(st.none(), st.floats(0, 100)),
)
def test_what_is_written_lies_within_the_bounds_and_zero_only_behind_the_activator(
    state: ActivityState,
    desired: int,
    ready: int,
    replicas: int,
    bounds: tuple[int, int],
    proxied_s: float | None,
) -> None:
    least, extra = bounds
    rules = scaling(min_scale=least, max_scale=least + extra)
    after = plan(rules, state, desired=desired, ready=ready, replicas=replicas, proxied_s=proxied_s)
    if after.replicas is None:
        return
    assert after.replicas != replicas
    assert after.replicas >= least
    assert least + extra == 0 or after.replicas <= least + extra
    if after.replicas == 0:
        assert desired <= 0
        assert state.activity is Activity.ACTIVATING or proxied_s is not None


@given(states, st.integers(-1, 5), st.integers(0, 5), st.integers(0, 5))
def test_a_quiet_world_reaches_rest(state: ActivityState, desired: int, ready: int, replicas: int) -> None:
    """Passes over an unchanged world end in one that writes nothing and changes nothing."""
    for _ in range(6):
        after = plan(scaling(), state, desired=desired, ready=ready, replicas=replicas, proxied_s=100)
        if after.replicas is None and after.state == state:
            return
        state, replicas = after.state, replicas if after.replicas is None else after.replicas
        ready = min(ready, replicas)
    pytest.fail(f"still moving: {after}")


def test_a_new_window_moves_the_end_of_activity() -> None:
    state = since(Activity.ACTIVE, 10)
    assert plan(scaling(), state).want == 1
    assert plan(replace(scaling(), stable_window_s=6), state).want == 0
