"""Runs in virtual time against what queueing theory and the autoscaler's own rules say."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.base.errors import Invalid, UserError
from onebox.knative.settings import ServingSettings, shipped_settings
from onebox.knative.simulation.plant import Fate
from onebox.knative.simulation.scenario import Assumptions, RevisionShape, parse_shape, simulate
from onebox.knative.simulation.simulator import Run
from onebox.knative.simulation.summary import Summary, summarize
from onebox.knative.simulation.traffic import parse_traffic

KNATIVE = ServingSettings()


def shape(*, concurrency: int = 0, timeout_s: float = 300, **annotations: str) -> RevisionShape:
    return RevisionShape(
        name="iris",
        annotations={f"autoscaling.knative.dev/{key.replace('_', '-')}": value for key, value in annotations.items()},
        container_concurrency=concurrency,
        timeout_s=timeout_s,
    )


def played(
    revision: RevisionShape, trace: str, assumed: Assumptions, serving: ServingSettings = KNATIVE
) -> tuple[Run, Summary]:
    run, load = simulate(revision, parse_traffic(trace), assumed, serving)
    return run, summarize(run, load, parallel=assumed.parallel)


ONE_POD = {"min_scale": "1", "max_scale": "1"}


def test_evenly_spaced_requests_below_capacity_never_wait() -> None:
    _, summary = played(shape(**ONE_POD), "0,50\n60,50\n", Assumptions(service_s=0.01, even=True))
    assert summary.served == summary.requests == 6000
    assert summary.latency_max_ms == pytest.approx(10)
    assert (summary.pods_max, summary.cold) == (1, 0)
    assert summary.busy_share == pytest.approx(0.5, rel=0.01)
    assert summary.replica_hours == pytest.approx(120 / 3600)


def test_waiting_before_one_pod_is_what_queueing_theory_says() -> None:
    # M/D/1: at a load of 0.8 a request waits rho / (2 (1 - rho)) = 2 times its work in the mean.
    run, load = simulate(
        shape(**ONE_POD), parse_traffic("0,80\n2000,80\n"), Assumptions(service_s=0.01, seed=3), KNATIVE
    )
    waits = [latency - work for latency, work in zip(run.plant.latencies, load.services, strict=True)]
    assert sum(waits) / len(waits) == pytest.approx(0.02, rel=0.1)


def test_spread_keeps_the_mean() -> None:
    _, load = simulate(
        shape(**ONE_POD), parse_traffic("0,100\n500,1\n"), Assumptions(service_s=0.001, spread=1), KNATIVE
    )
    assert load.services.mean() == pytest.approx(0.001, rel=0.05)
    assert load.services.std() == pytest.approx(0.001, rel=0.15)


def test_the_first_request_from_zero_waits_for_its_pod_and_no_longer() -> None:
    run, summary = played(
        shape(), "0,0\n10,0.2\n15,0\n200,0\n", Assumptions(service_s=0.01, cold_start_s=0.3, even=True)
    )
    assert summary.requests == summary.cold == summary.cold_starts == 1
    assert run.plant.latencies[0] == pytest.approx(0.31)
    assert run.series.pods[0] == 0
    assert run.series.pods[-1] == 0


def test_the_last_pod_goes_when_knative_would_let_it_go() -> None:
    run, _ = played(
        shape(window="10s", target_burst_capacity="0"),
        "0,0\n10,5\n20,0\n120,0\n",
        Assumptions(service_s=0.01, even=True),
    )
    gone = max(second for second, pods in enumerate(run.series.pods) if pods) + 1
    # The last request leaves the window 10 s later; then the activator is in the path for 30 s (config-autoscaler).
    assert 58 <= gone <= 66  # Seconds and ticks are where they are: up to 2 s either way, and the pod starts at 10.


def test_a_step_of_load_brings_pods_and_panic_and_no_failure() -> None:
    run, summary = played(
        shape(target="10", window="30s"), "0,10\n60,400\n180,0\n400,0\n", Assumptions(service_s=0.1, parallel=10)
    )
    # 40 requests inside on average; a pod is wanted to have 10 x 70 % of them.
    assert summary.served == summary.requests
    assert 5 <= max(run.series.ready[150:180]) <= 8
    assert any(run.series.panic[60:80])
    assert run.series.pods[-1] == 0


def test_queues_of_a_pod_with_a_concurrency_limit_are_bounded() -> None:
    # 1 runs and 10 wait; a pod that takes a second for each refuses what comes beyond.
    run, summary = played(
        shape(concurrency=1, target_burst_capacity="0", **ONE_POD),
        "0,50\n2,0\n60,0\n",
        Assumptions(service_s=1, even=True),
    )
    assert summary.rejected > 50
    assert summary.served + summary.rejected == summary.requests
    assert max(run.series.inside) <= 11


def test_what_waits_longer_than_the_timeout_is_given_up() -> None:
    _, summary = played(shape(timeout_s=5, **ONE_POD), "0,10\n10,0\n60,0\n", Assumptions(service_s=1, even=True))
    assert summary.timed_out > 50
    assert summary.served + summary.timed_out == summary.requests
    assert summary.latency_max_ms is not None
    assert summary.latency_max_ms <= 7000


def test_onebox_and_a_cluster_differ_by_their_settings() -> None:
    trace = "0,0\n10,5\n20,0\n120,0\n"
    assumed = Assumptions(service_s=0.01, even=True)
    direct = shape(window="10s", target_burst_capacity="0")
    _, cluster = played(direct, trace, assumed)
    _, onebox = played(direct, trace, assumed, shipped_settings())
    assert onebox.replica_hours < cluster.replica_hours  # The grace period is 1 s there, 30 s here.


def test_with_the_activator_in_the_path_requests_wait_there() -> None:
    revision = shape(concurrency=1, target_burst_capacity="-1", **ONE_POD)
    _, summary = played(revision, "0,50\n2,0\n200,0\n", Assumptions(service_s=1, even=True))
    assert summary.served == summary.requests == 100
    assert summary.held_max > 80


@settings(max_examples=25, deadline=None)
@given(
    rates=st.lists(st.floats(0, 60), min_size=2, max_size=6),
    concurrency=st.sampled_from([0, 1, 3]),
    most=st.integers(1, 5),
    least=st.integers(0, 1),
    service_s=st.floats(0.001, 0.5),
    seed=st.integers(0, 100),
)
def test_every_request_has_one_fate_and_pods_keep_their_bounds(
    rates: list[float], concurrency: int, most: int, least: int, service_s: float, seed: int
) -> None:
    trace = "\n".join(f"{20 * index},{rate}" for index, rate in enumerate(rates))
    revision = shape(concurrency=concurrency, min_scale=str(least), max_scale=str(most), window="6s")
    assumed = Assumptions(service_s=service_s, spread=0.5, cold_start_s=0.5, seed=seed)
    run, summary = played(revision, trace, assumed)
    assert Fate.PENDING not in run.plant.fates
    assert summary.served + summary.rejected + summary.timed_out == summary.requests
    assert run.plant.inside == 0
    assert all(least <= ready <= most for ready in run.series.ready)
    assert len(run.series.ready) == round(20 * len(rates))
    again, _ = played(revision, trace, assumed)
    assert again.plant.latencies == run.plant.latencies


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("service_s", 0, "--service-time = 0, must be above 0s"),
        ("spread", -1, r"--spread = -1, must be in \[0, 10\]"),
        ("parallel", 0, "--parallel = 0, must be at least 1"),
        ("cold_start_s", -1, "--cold-start = -1, must be at least 0s"),
    ],
)
def test_assumptions_that_cannot_be_are_refused(field: str, value: float, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Assumptions(**{"service_s": 0.01, field: value})  # type: ignore[arg-type]


def test_the_shape_of_a_service_has_defaults_and_is_validated() -> None:
    service = {"metadata": {"name": "a"}, "spec": {"template": {"spec": {"containerConcurrency": 3}}}}
    assert parse_shape(service, KNATIVE) == RevisionShape(
        name="a", annotations={}, container_concurrency=3, timeout_s=300
    )
    service["spec"]["template"]["metadata"] = {"annotations": {"autoscaling.knative.dev/window": "1s"}}  # type: ignore[index]
    with pytest.raises(Invalid, match=r"autoscaling.knative.dev/window: expected 6s <= 1s <= 1h0m0s"):
        parse_shape(service, KNATIVE)
