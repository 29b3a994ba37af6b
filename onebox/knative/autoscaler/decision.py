"""How many pods a revision should have, from what was observed (pure; spec/knative.md 2.5).

`decide` is the KPA's formula: stable and panic averages over the target, rate limits, panic mode, activation scale,
scale-down delay, excess burst capacity. What becomes of the number (bounds, scale to zero) is gate.py's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from onebox.knative.autoscaler.report import SCALE_UNKNOWN
from onebox.knative.autoscaler.windows import Metric, Observed

TICK_S = 2
"""Seconds between two decisions, and the width of a slot of the scale-down delay; constants of Knative's."""
BURST_UNLIMITED = -1.0
"""target-burst-capacity that keeps the activator in the path always."""
_SCALE_MAX = 2**31 - 1
"""Scales are int32 in Knative and Kubernetes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeciderSpec:
    """What one revision's decisions follow."""

    metric: Metric = Metric.CONCURRENCY
    target: float
    """Aimed at per pod, in units of the metric; > 0."""
    total: float
    """A pod's whole capacity, in units of the metric."""
    target_burst_capacity: float
    panic_threshold: float
    """Panic begins where the panic average needs this many times the ready pods."""
    scale_up_rate_max: float
    scale_down_rate_max: float
    stable_window_s: float
    scale_down_delay_s: float = 0.0
    activation_scale: int = 0
    initial_scale: int = 1
    reachable: bool = True
    """A revision that no route names may drop to zero at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeciderState:
    """What a revision's decisions remember from one to the next."""

    panic_since_s: float | None = None
    panic_pods_max: int = 0
    delay_slots: int = 0
    """Length of the scale-down delay in slots, fixed when the scaler was made; 0: none."""
    delayed: tuple[tuple[int, int], ...] = ()
    """(slot, pods): falling in pods, rising in slots, so that the first one is the maximum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    desired: int = SCALE_UNKNOWN
    excess_burst_capacity: int
    """Requests that the ready pods could take beyond the wanted burst; below zero: the activator has to buffer."""


def initial_state(spec: DeciderSpec, ready: int, *, now_s: float) -> DeciderState:
    """The state of a new scaler. With more than one ready pod it is in panic: its history was lost in a restart, and
    panic holds the pods that run until a whole stable window was seen again."""
    return DeciderState(
        panic_since_s=now_s if ready > 1 else None,
        panic_pods_max=ready,
        delay_slots=math.ceil(spec.scale_down_delay_s / TICK_S),
    )


def initial_decision(spec: DeciderSpec) -> Decision:
    """What holds before the first data: no wish, and the burst that the initial scale could take."""
    if spec.target_burst_capacity in (BURST_UNLIMITED, 0):
        return Decision(excess_burst_capacity=int(spec.target_burst_capacity))
    return Decision(excess_burst_capacity=int(spec.initial_scale * spec.total - spec.target_burst_capacity))


def decide(
    spec: DeciderSpec, observed: Observed, *, ready: int, state: DeciderState, now_s: float
) -> tuple[Decision, DeciderState]:
    """The decision at `now_s` and the state for the next one; `ready` counts ready pods that are not terminating."""
    pods = max(1, ready)
    needed_stable = math.ceil(observed.stable / spec.target)
    needed_panic = math.ceil(observed.panic / spec.target)
    state = _panic(state, over=needed_panic / pods >= spec.panic_threshold, window_s=spec.stable_window_s, now_s=now_s)
    desired = _limited(spec, needed_stable, pods)
    if state.panic_since_s is not None:
        # Panic only ever adds. The stable average can be the larger one when a surge has just ended.
        desired = max(desired, _limited(spec, needed_panic, pods), state.panic_pods_max)
        state = replace(state, panic_pods_max=desired)
    if spec.reachable and state.delay_slots:
        state = _remembered(state, desired, now_s=now_s)
        desired = state.delayed[0][1]
    return Decision(desired=desired, excess_burst_capacity=_excess_burst_capacity(spec, observed.panic, ready)), state


def _limited(spec: DeciderSpec, needed: int, pods: int) -> int:
    # Rounded outwards, or a rate of 1.1 could never move one pod: ceil(1.1 * 2) = 3.
    most = math.ceil(spec.scale_up_rate_max * pods)
    least = math.floor(pods / spec.scale_down_rate_max) if spec.reachable else 0
    limited = min(max(needed, least), most, _SCALE_MAX)
    return max(limited, spec.activation_scale) if spec.activation_scale > 1 and needed > 0 else limited


def _panic(state: DeciderState, *, over: bool, window_s: float, now_s: float) -> DeciderState:
    if over:
        return replace(state, panic_since_s=now_s)
    if state.panic_since_s is not None and state.panic_since_s + window_s < now_s:
        return replace(state, panic_since_s=None, panic_pods_max=0)
    return state


def _remembered(state: DeciderState, desired: int, *, now_s: float) -> DeciderState:
    # Whatever is both older and not larger than `desired` can never be the maximum again.
    slot = math.floor(now_s) // TICK_S
    larger = tuple(entry for entry in state.delayed if entry[1] > desired and entry[0] > slot - state.delay_slots)
    if larger and larger[-1][0] == slot:
        return replace(state, delayed=larger)
    return replace(state, delayed=(*larger, (slot, desired)))


def _excess_burst_capacity(spec: DeciderSpec, panic: float, ready: int) -> int:
    if spec.target_burst_capacity == 0:
        return 0
    if spec.target_burst_capacity < 0:
        return -1
    # The panic average: the activator should enter the path as soon as a burst begins, not a minute later.
    return math.floor(ready * spec.total - spec.target_burst_capacity - panic)
