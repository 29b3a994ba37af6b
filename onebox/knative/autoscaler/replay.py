"""A recorded load played through the autoscaler: `ladle autoscaler replay FILE`.

A trace has a `spec`, the `stats` that came in each second `t`, and `ticks`: one decision each, with the ready pods of that
moment as input. The answer is the same trace with the outputs of every tick computed anew.
"""

from __future__ import annotations

from collections.abc import Iterator

from controller.base.errors import UserError
from controller.base.json import JsonObject, JsonView
from onebox.knative.autoscaler.decision import BURST_UNLIMITED, DeciderSpec, DeciderState, decide, initial_state
from onebox.knative.autoscaler.windows import Aggregation, Metric, Observed, RevisionWindows

_EPOCH_S = 1_700_000_000
"""The Unix time of second 0 of a trace; only slots of the scale-down delay depend on it."""


def replay(trace: JsonObject) -> JsonObject:
    """The same trace with `ticks` recomputed; UserError where a field is missing or of the wrong type."""
    try:
        return trace | {"ticks": list(_ticks(trace))}
    except (KeyError, TypeError, ValueError) as error:
        name = trace.get("name", "?") if isinstance(trace, dict) else "?"
        raise UserError("InvalidTrace", f"trace {name}: {type(error).__name__}: {error}") from error


def _ticks(trace: JsonView) -> Iterator[JsonObject]:
    fields = trace["spec"]
    spec = _decider_spec(fields)
    windows = RevisionWindows(
        fields["stableWindowSeconds"], fields["panicWindowSeconds"], aggregation=Aggregation(fields["aggregation"])
    )
    state = initial_state(spec, fields["initialReady"], now_s=_EPOCH_S)
    stats = sorted(trace["stats"], key=lambda stat: float(stat["t"]))
    position = 0
    for tick in trace["ticks"]:
        # A decision sees what was reported in its own second.
        while position < len(stats) and stats[position]["t"] <= tick["t"]:
            _record(windows, stats[position])
            position += 1
        output, state = _tick(spec, windows, state, tick)
        yield tick | output


def _tick(
    spec: DeciderSpec, windows: RevisionWindows, state: DeciderState, tick: JsonView
) -> tuple[JsonObject, DeciderState]:
    now_s = _EPOCH_S + tick["t"]
    # With the activator always in the path nothing is scraped, and silence means no load.
    if windows.is_empty(now_s) and spec.target_burst_capacity != BURST_UNLIMITED:
        observed, decision = Observed(stable=0.0, panic=0.0), None
    else:
        observed = windows.observe(spec.metric, now_s)
        decision, state = decide(spec, observed, ready=tick["ready"], state=state, now_s=now_s)
    return {
        "valid": decision is not None,
        "stable": observed.stable,
        "panic": observed.panic,
        "desired": decision.desired if decision else 0,
        "excessBurstCapacity": decision.excess_burst_capacity if decision else 0,
        "inPanicMode": state.panic_since_s is not None,
    }, state


def _record(windows: RevisionWindows, stat: JsonView) -> None:
    windows.record(
        _EPOCH_S + stat["t"],
        concurrency=stat["averageConcurrentRequests"] - stat["averageProxiedConcurrentRequests"],
        rps=stat["requestCount"] - stat["proxiedRequestCount"],
    )


def _decider_spec(fields: JsonView) -> DeciderSpec:
    return DeciderSpec(
        metric=Metric(fields["metric"]),
        target=fields["targetValue"],
        total=fields["totalValue"],
        target_burst_capacity=fields["targetBurstCapacity"],
        panic_threshold=fields["panicThreshold"],
        scale_up_rate_max=fields["maxScaleUpRate"],
        scale_down_rate_max=fields["maxScaleDownRate"],
        stable_window_s=fields["stableWindowSeconds"],
        scale_down_delay_s=fields["scaleDownDelaySeconds"],
        activation_scale=fields["activationScale"],
        reachable=fields["reachable"],
    )
