"""F7, F8: one request at a time, and a crowd that the activator holds."""

from __future__ import annotations

import threading
import time

import pytest

from tests.e2e.knative.asking import Answer, ask_at_once, load
from tests.e2e.knative.serving import SHORT_WINDOW, Serving, container, service, template
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.long]

CROWD, CROWD_PODS, CROWD_S = 100, 10, 0.3


def test_a_server_that_takes_one_request_gets_one(serving: Serving) -> None:
    url = serving.run(service("single", template(container("singlethreaded"), containerConcurrency=1)))
    with load(url, clients=5) as running:
        wait_for("many requests", lambda: running.answered >= 200, timeout_s=90)
    assert not running.failures


@pytest.mark.long
def test_a_server_that_takes_one_request_gets_one_for_twenty_seconds(serving: Serving) -> None:
    url = serving.run(service("single-long", template(container("singlethreaded"), containerConcurrency=1)))
    began_s = time.monotonic()
    with load(url, clients=5) as running:
        wait_for("twenty seconds", lambda: time.monotonic() - began_s >= 20)
    assert running.answered
    assert not running.failures


def test_a_crowd_waits_in_the_activator(serving: Serving) -> None:
    scale = {"max-scale": str(CROWD_PODS), "target-burst-capacity": "-1"}
    annotations = SHORT_WINDOW | {f"autoscaling.knative.dev/{word}": value for word, value in scale.items()}
    crowded = service("crowd", template(container("autoscale"), annotations=annotations, containerConcurrency=1))
    url = serving.run(crowded)
    answers: list[Answer] = []

    def crowd() -> None:
        answers.extend(ask_at_once(url, CROWD, f"/?sleep={CROWD_S * 1000:.0f}", clients=CROWD))

    began_s = time.monotonic()
    asking = threading.Thread(target=crowd)
    asking.start()
    try:
        wait_for("as many pods as may be", lambda: serving.replicas("crowd-00001") == CROWD_PODS)
    finally:
        asking.join()
    assert [answer.status for answer in answers] == [200] * CROWD
    # No machine is faster: each pod answers one at a time.
    assert time.monotonic() - began_s >= CROWD * CROWD_S / CROWD_PODS
    assert len(serving.pods("crowd-00001")) <= CROWD_PODS
