"""The decision: worked examples of the reference (numbers in the ids), and what must hold for any load."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebox.knative.autoscaler.decision import (
    DeciderSpec,
    DeciderState,
    Decision,
    decide,
    initial_decision,
    initial_state,
)
from onebox.knative.autoscaler.windows import Metric, Observed

MINUTE_S = 60.0


def spec(target: float = 10, burst: float = 0, **changes: object) -> DeciderSpec:
    """Convention A: capacity a third above the target, rates of 10."""
    base = DeciderSpec(
        target=target,
        total=target / 0.75,
        target_burst_capacity=burst,
        panic_threshold=2,
        scale_up_rate_max=10,
        scale_down_rate_max=10,
        stable_window_s=60,
    )
    return replace(base, **changes)  # type: ignore[arg-type]  # Each test names fields of DeciderSpec.


def shipped(total: float = 100, burst: float = 211, utilization: float = 0.7, **changes: object) -> DeciderSpec:
    """Convention B: what Knative ships."""
    return spec(total * utilization, burst, total=total, scale_up_rate_max=1000.0, scale_down_rate_max=2.0, **changes)


class Scaler:
    """Decisions in a row."""

    def __init__(self, decider: DeciderSpec, *, state: DeciderState | None = None) -> None:
        self.decider = decider
        self.state = state or DeciderState()

    def at(self, now_s: float, ready: int, stable: float, panic: float) -> Decision:
        observed = Observed(stable=stable, panic=panic)
        decision, self.state = decide(self.decider, observed, ready=ready, state=self.state, now_s=now_s)
        return decision

    @property
    def panicking(self) -> bool:
        return self.state.panic_since_s is not None


def once(decider: DeciderSpec, ready: int, stable: float, panic: float) -> Decision:
    return Scaler(decider).at(0, ready, stable, panic)


@pytest.mark.parametrize(
    ("decider", "ready", "stable", "panic", "desired", "excess"),
    [
        pytest.param(spec(), 1, 0, 0, 0, 0, id="1-no-load"),
        pytest.param(spec(burst=100), 1, 50, 50, 5, -137, id="2-burst"),
        pytest.param(spec(burst=0), 1, 50, 49, 5, 0, id="3-no-burst"),
        pytest.param(spec(181, burst=-1), 1, 21, 26, 1, -1, id="4-unlimited-burst"),
        pytest.param(spec(), 5, 50, 50, 5, 0, id="5-steady"),
        pytest.param(spec(), 1, 50, 100, 10, 0, id="6-panic"),
        pytest.param(spec(1, scale_up_rate_max=1.1), 2, 3, 3.1, 3, 0, id="9-at-least-one-more"),
        pytest.param(spec(scale_down_rate_max=1.1), 100, 1, 1, 90, 0, id="10-slowly-down"),
        pytest.param(spec(scale_down_rate_max=1.1, reachable=False), 100, 1, 1, 1, 0, id="10-unreachable"),
        pytest.param(spec(), 0, 1000, 888, 10, 0, id="13-no-pods-count-as-one"),
        pytest.param(spec(activation_scale=2), 1, 0, 0, 0, 0, id="18-idle"),
        pytest.param(spec(activation_scale=2), 1, 1, 0, 2, 0, id="18-activated"),
        pytest.param(spec(metric=Metric.RPS), 1, 100, 99, 10, 0, id="19-rps"),
        pytest.param(shipped(), 1, 0, 0, 0, -111, id="23-idle"),
        pytest.param(shipped(), 1, 70, 70, 1, -181, id="24-at-target"),
        pytest.param(shipped(), 3, 50, 50, 1, 39, id="26-serves"),
        pytest.param(shipped(), 2, 50, 50, 1, -61, id="26-proxied"),
        pytest.param(shipped(10), 22, 9, 9, 11, 0, id="27-serves"),
        pytest.param(shipped(10), 22, 10, 10, 11, -1, id="27-proxied"),
        pytest.param(shipped(10), 21, 5, 5, 10, -6, id="27-fewer"),
        pytest.param(shipped(1), 0, 1, 1, 2, -212, id="28-first-request"),
        pytest.param(shipped(1, utilization=1), 0, 1, 1, 1, -212, id="28-full-utilization"),
        pytest.param(shipped(1), 1, 0.70, 0.70, 1, -211, id="29-one"),
        pytest.param(shipped(1), 1, 0.71, 0.71, 2, -211, id="29-two"),
        pytest.param(shipped(reachable=False), 10, 0, 0, 0, 789, id="31-unreachable"),
        pytest.param(shipped(activation_scale=3), 0, 1, 1, 3, -212, id="32-activated"),
        pytest.param(shipped(activation_scale=3), 3, 0, 0, 1, 89, id="32-idle"),
        pytest.param(shipped(200, metric=Metric.RPS), 1, 281, 281, 3, -292, id="33-rps"),
        pytest.param(shipped(10, burst=10, utilization=1), 1, 0, 0, 0, 0, id="34-serves"),
        pytest.param(shipped(10, burst=10, utilization=1), 1, 1, 1, 1, -1, id="34-proxied"),
        pytest.param(shipped(10, burst=10, utilization=1), 2, 10, 10, 1, 0, id="34-serves-again"),
        pytest.param(shipped(10, burst=7), 1, 7, 7, 1, -4, id="35-proxied"),
        pytest.param(shipped(10, burst=7), 2, 12, 12, 2, 1, id="35-serves"),
    ],
)
def test_one_decision(decider: DeciderSpec, ready: int, stable: float, panic: float, desired: int, excess: int) -> None:
    assert once(decider, ready, stable, panic) == Decision(desired=desired, excess_burst_capacity=excess)


def test_7_no_panic_below_the_threshold() -> None:
    scaler = Scaler(spec())
    assert scaler.at(0, 8, 100, 100).desired == 10
    assert scaler.at(2, 8, 50, 50).desired == 5
    assert not scaler.panicking


def test_8_panic_holds_what_it_has_reached() -> None:
    scaler = Scaler(spec(1), state=DeciderState(panic_since_s=-5, panic_pods_max=5))
    assert scaler.at(0, 5, 50, 30).desired == 50
    assert Scaler(spec(1), state=DeciderState(panic_since_s=-5, panic_pods_max=5)).at(0, 5, 20, 30).desired == 30


def test_11_and_12_rates_limit_each_step() -> None:
    up = Scaler(spec())
    assert [up.at(0, 1, 1000, 1001).desired, up.at(2, 10, 1000, 1001).desired] == [10, 100]
    down = Scaler(spec())
    assert [down.at(0, 100, 1, 1).desired, down.at(2, 10, 1, 1).desired] == [10, 1]


def test_14_panic_ends_a_stable_window_after_the_surge() -> None:
    scaler = Scaler(spec())
    assert scaler.at(0, 1, 100, 100).desired == 10
    assert scaler.at(1, 10, 100, 1000).desired == 100
    assert scaler.at(31, 10, 1, 1).desired == 100
    assert scaler.at(61, 10, 1, 1).desired == 100  # Exactly the window: not yet.
    assert scaler.at(62, 10, 1, 1).desired == 1


def test_15_slow_growth_in_panic_does_not_extend_it() -> None:
    scaler = Scaler(spec(1))
    assert scaler.at(0, 10, 11, 25).desired == 25
    assert scaler.at(30, 40, 30, 41).desired == 41
    assert scaler.state.panic_since_s == 0
    assert scaler.at(62, 55, 50, 56).desired == 50
    assert not scaler.panicking


def test_16_a_new_surge_extends_panic() -> None:
    scaler = Scaler(spec(1))
    assert scaler.at(0, 10, 11, 25).desired == 25
    assert scaler.at(30, 40, 30, 80).desired == 80
    assert scaler.state.panic_since_s == 30


def test_17_growth_may_be_exponential() -> None:
    scaler, ready = Scaler(spec(1)), 1
    for needed in (6, 36, 216, 1296):
        assert scaler.at(0, ready, needed, needed).desired == needed
        ready = needed


def test_20_a_new_target_counts_at_the_next_decision() -> None:
    scaler = Scaler(spec(10))
    assert scaler.at(0, 1, 100, 101).desired == 10
    scaler.decider = spec(1)
    assert scaler.at(2, 10, 100, 101).desired == 100


def delayed(delay_s: float, **changes: object) -> Scaler:
    decider = spec(panic_threshold=100, scale_down_delay_s=delay_s, **changes)
    return Scaler(decider, state=initial_state(decider, 0, now_s=0))


def test_21_fewer_pods_have_to_be_enough_for_the_whole_delay() -> None:
    scaler = delayed(5 * MINUTE_S)
    assert scaler.at(2, 4, 40, 40).desired == 4
    assert scaler.at(5 * MINUTE_S, 4, 0, 0).desired == 4
    assert scaler.at(5 * MINUTE_S + 2, 4, 0, 0).desired == 0


def test_21_the_delay_lets_go_step_by_step() -> None:
    scaler = delayed(5 * MINUTE_S)
    steps = [(9, 40, 4), (10, 30, 4), (11, 0, 4), (14, 0, 3), (15, 0, 0)]
    assert [scaler.at(t * MINUTE_S, 4, load, load).desired for t, load, _ in steps] == [want for *_, want in steps]


def test_21_without_a_delay_two_decisions_of_one_slot_differ() -> None:
    scaler = delayed(0)
    assert [scaler.at(0, 4, 40, 40).desired, scaler.at(0.5, 4, 20, 20).desired] == [4, 2]


def test_22_an_unreachable_revision_drops_at_once() -> None:
    scaler = delayed(5 * MINUTE_S)
    assert scaler.at(2, 4, 40, 40).desired == 4
    scaler.decider = replace(scaler.decider, reachable=False)
    assert scaler.at(4, 4, 0, 0).desired == 0


def test_25_one_pod_above_its_target_panics() -> None:
    scaler = Scaler(shipped())
    assert scaler.at(0, 1, 71, 71).desired == 2
    assert scaler.panicking


def test_30_idle_pods_halve() -> None:
    scaler, ready, seen = Scaler(shipped()), 10, []
    for tick in range(4):
        ready = scaler.at(2.0 * tick, ready, 0, 0).desired
        seen.append(ready)
    assert seen == [5, 2, 1, 0]
    assert once(shipped(), 9, 0, 0).desired == 4


def test_a_new_scaler_with_several_pods_holds_them_for_a_window() -> None:
    decider = shipped()
    scaler = Scaler(decider, state=initial_state(decider, 5, now_s=100))
    assert scaler.at(102, 5, 0, 0).desired == 5
    assert scaler.at(160, 5, 0, 0).desired == 5
    assert scaler.at(162, 5, 0, 0).desired == 2
    assert initial_state(decider, 1, now_s=100).panic_since_s is None


@pytest.mark.parametrize(("burst", "excess"), [(211, -111), (0, 0), (-1, -1), (50, 50)])
def test_before_the_first_data_only_the_burst_is_known(burst: float, excess: int) -> None:
    assert initial_decision(shipped(burst=burst)) == Decision(desired=-1, excess_burst_capacity=excess)


loads = st.floats(0, 1e6)
pods = st.integers(0, 500)
deciders = st.builds(
    spec,
    target=st.floats(0.01, 1000),
    burst=st.sampled_from([-1.0, 0.0, 211.0]),
    scale_up_rate_max=st.floats(1.01, 1000),
    scale_down_rate_max=st.floats(1.01, 10),
    activation_scale=st.integers(0, 5),
    reachable=st.booleans(),
)


@given(deciders, pods, loads, loads)
def test_no_step_is_larger_than_the_rates_allow(decider: DeciderSpec, ready: int, stable: float, panic: float) -> None:
    desired = once(decider, ready, stable, panic).desired
    running = max(1, ready)
    assert desired <= max(running * decider.scale_up_rate_max + 1, decider.activation_scale)
    if decider.reachable:
        assert desired >= running // decider.scale_down_rate_max
    assert desired >= 0


@given(deciders, pods, loads, loads, st.floats(0, 1e4))
def test_more_load_never_wants_fewer_pods(
    decider: DeciderSpec, ready: int, stable: float, panic: float, more: float
) -> None:
    assert once(decider, ready, stable + more, panic + more).desired >= once(decider, ready, stable, panic).desired


@given(deciders, st.lists(st.tuples(pods, loads, loads), min_size=2, max_size=20))
def test_panic_never_takes_pods_away(decider: DeciderSpec, steps: list[tuple[int, float, float]]) -> None:
    scaler = Scaler(decider)
    before, was_panicking = 0, False
    for tick, (ready, stable, panic) in enumerate(steps):
        desired = scaler.at(2.0 * tick, ready, stable, panic).desired
        if was_panicking and scaler.panicking:
            assert desired >= before
        before, was_panicking = desired, scaler.panicking


@given(st.lists(st.tuples(st.integers(0, 5), loads), min_size=1, max_size=40), st.integers(1, 60))
def test_a_delayed_wish_is_the_largest_of_its_slots(steps: list[tuple[int, float]], delay_s: int) -> None:
    scaler, plain = delayed(delay_s), delayed(0)
    now_s, wishes = 0, list[tuple[int, int]]()
    for passed_s, load in steps:
        now_s += passed_s
        wishes.append((now_s // 2, plain.at(now_s, 1, load, 0).desired))
        recent = [want for slot, want in wishes if slot > now_s // 2 - scaler.state.delay_slots]
        assert scaler.at(now_s, 1, load, 0).desired == max(recent)
