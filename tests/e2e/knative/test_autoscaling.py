"""F13, F14, F15: pods for the load, by concurrency and by rate, and when the activator leaves the path."""

from __future__ import annotations

import math
import time

import pytest

from tests.e2e.knative.asking import load
from tests.e2e.knative.serving import Serving, conditions, container, service, template
from tests.e2e.traffic import Traffic
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(300)]

UTILIZATION = 0.7
SCALE_S = 90


def annotations(**words: str) -> dict[str, str]:
    """Both windows of ten seconds. In a panic window of one second two reports that a busy machine delivers within the same
    second would count as twice the load; in ten they count as a tenth more."""
    chosen = {"window": "10s", "panic_window_percentage": "100", **words}
    return {f"autoscaling.knative.dev/{word.replace('_', '-')}": value for word, value in chosen.items()}


def bounds(pods: int) -> range:
    """The pods that Knative's tests allow for a load of this many times the target."""
    return range(pods - 1, math.ceil(math.ceil(pods / UTILIZATION) * 1.1) + 1)


def hold(serving: Serving, revision: str, running: Traffic, pods: int, requests: int) -> None:
    """The pods stay in their bounds while so many requests are answered, once there are as many as the load is targets."""
    wait_for(f"{pods} pods", lambda: serving.ready_pods(revision) >= pods, timeout_s=SCALE_S)
    enough = running.answered + requests

    def still_in_bounds() -> bool:
        assert serving.ready_pods(revision) in bounds(pods)
        return running.answered >= enough

    wait_for("requests in the bounds", still_in_bounds, timeout_s=SCALE_S)


def test_pods_follow_concurrency_to_zero_and_back(serving: Serving) -> None:
    scale = annotations(target="6", target_utilization_percentage="70")
    url = serving.run(service("updown", template(container("autoscale"), annotations=scale)))
    revision = "updown-00001"
    for _ in range(2):
        with load(url, "/?sleep=500&prime=10000", clients=12) as running:
            hold(serving, revision, running, pods=2, requests=60)
        assert not running.failures
        wait_for("no pods", lambda: not serving.pods(revision), timeout_s=SCALE_S)
        assert conditions(serving.get("revision", revision))["Ready"]["status"] == "True"
    serving.delete("service", "updown")


@pytest.mark.long
@pytest.mark.parametrize("algorithm", ["linear", "weighted-exponential"])
def test_pods_follow_a_load_that_grows_and_stays(serving: Serving, algorithm: str) -> None:
    name = f"sustained-{algorithm[:6]}"
    scale = annotations(
        target="6", target_utilization_percentage="70", window="30s", metric_aggregation_algorithm=algorithm
    )
    url = serving.run(service(name, template(container("autoscale"), annotations=scale)))
    for pods in range(1, 9):
        with load(url, "/?sleep=500", clients=6 * pods) as running:
            hold(serving, f"{name}-00001", running, pods=pods, requests=60 * pods)
        assert not running.failures
    began_s = time.monotonic()
    with load(url, "/?sleep=500", clients=48) as running:
        while time.monotonic() - began_s < 120:
            hold(serving, f"{name}-00001", running, pods=8, requests=50)
    assert not running.failures
    serving.delete("service", name)


@pytest.mark.parametrize("rates", [(20, 40), pytest.param((20, 30, 40), marks=pytest.mark.long)])
def test_pods_follow_the_rate_of_requests(serving: Serving, rates: tuple[int, ...]) -> None:
    name = f"rate-{len(rates)}"
    scale = annotations(metric="rps", target="10", target_utilization_percentage="70")
    url = serving.run(service(name, template(container("autoscale"), annotations=scale)))
    for rate in rates:
        with load(url, "/?sleep=10", clients=rate // 10, period_s=0.1) as running:
            hold(serving, f"{name}-00001", running, pods=rate // 10, requests=3 * rate)
        assert not running.failures
    serving.delete("service", name)


def test_the_activator_leaves_when_there_is_room_for_a_burst(serving: Serving) -> None:
    scale = annotations(target="10", target_utilization_percentage="70", target_burst_capacity="7")
    url = serving.run(service("burst", template(container("autoscale"), annotations=scale)))
    revision = "burst-00001"
    # Six on one pod leave no room for seven more (10 - 6 - 7 < 0), twelve on two pods do (20 - 12 - 7 >= 0).
    with load(url, "/?sleep=2000", clients=6) as first:
        wait_for("the activator is in the path", lambda: serving.is_proxied(revision), timeout_s=SCALE_S)
        enough = first.answered + 18
        wait_for("requests", lambda: first.answered >= enough, timeout_s=SCALE_S)
        assert serving.is_proxied(revision)
        assert serving.replicas(revision) == 1
        with load(url, "/?sleep=2000", clients=6) as second:
            wait_for(
                "the pods are in the path",
                lambda: serving.ready_pods(revision) == 2 and not serving.is_proxied(revision),
                timeout_s=SCALE_S,
            )
            assert serving.replicas(revision) == 2
    assert not first.failures
    assert not second.failures
    serving.delete("service", "burst")
