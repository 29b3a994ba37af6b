"""The recorded traces of Knative's own autoscaler, replayed to the digit."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from controller.base.errors import UserError
from onebox.knative.autoscaler.replay import replay

TRACES = Path(__file__).parents[3] / "../shared/golden/kpa/traces.json"
OUTPUTS = ("valid", "desired", "excessBurstCapacity", "inPanicMode")

SMALL: dict[str, Any] = {
    "name": "small",
    "spec": {
        "metric": "concurrency",
        "aggregation": "linear",
        "targetValue": 10,
        "totalValue": 10,
        "targetBurstCapacity": 0,
        "panicThreshold": 2,
        "maxScaleUpRate": 1000,
        "maxScaleDownRate": 2,
        "stableWindowSeconds": 6,
        "panicWindowSeconds": 1,
        "scaleDownDelaySeconds": 0,
        "activationScale": 0,
        "reachable": True,
        "initialReady": 1,
    },
    "stats": [
        {
            "t": 1,
            "averageConcurrentRequests": 40,
            "averageProxiedConcurrentRequests": 10,
            "requestCount": 4,
            "proxiedRequestCount": 1,
        }
    ],
    "ticks": [{"t": 2, "ready": 1}, {"t": 4, "ready": 3}, {"t": 20, "ready": 3}],
}


@cache
def traces() -> list[dict[str, Any]]:
    if not TRACES.exists():
        pytest.skip("the reference's recorded traces are not on this machine")
    loaded: list[dict[str, Any]] = json.loads(TRACES.read_text())
    return loaded


@pytest.mark.parametrize("index", range(20))
def test_every_output_of_a_recorded_trace_comes_out_again(index: int) -> None:
    trace = traces()[index]
    inputs = trace | {"ticks": [{"t": tick["t"], "ready": tick["ready"]} for tick in trace["ticks"]]}
    replayed = replay(inputs)
    assert {key: replayed[key] for key in trace if key != "ticks"} == {k: v for k, v in trace.items() if k != "ticks"}
    for expected, tick in zip(trace["ticks"], replayed["ticks"], strict=True):
        assert {key: tick[key] for key in OUTPUTS} == {key: expected[key] for key in OUTPUTS}
        assert tick["stable"] == pytest.approx(expected["stable"], abs=1e-6)
        assert tick["panic"] == pytest.approx(expected["panic"], abs=1e-6)


def test_proxied_requests_are_not_counted_twice_and_silence_is_no_decision() -> None:
    first, second, silent = replay(SMALL)["ticks"]
    assert (first["stable"], first["desired"], first["inPanicMode"]) == (30, 3, False)
    assert second["desired"] == 3
    assert (silent["valid"], silent["desired"]) == (False, 0)


def test_with_the_activator_always_in_the_path_silence_means_no_load() -> None:
    trace = SMALL | {"spec": SMALL["spec"] | {"targetBurstCapacity": -1}}
    *_, silent = replay(trace)["ticks"]
    assert (silent["valid"], silent["desired"], silent["excessBurstCapacity"]) == (True, 1, -1)


@pytest.mark.parametrize("broken", [{"spec": {}}, {"ticks": [{"t": 2}]}, {"stats": [{"t": "soon"}]}, {"spec": None}])
def test_a_broken_trace_is_a_user_error_that_names_it(broken: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="trace small"):
        replay(SMALL | broken)
