"""One page of metrics: what Prometheus reads of a service that starts from zero."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.box import Box
from tests.e2e.manifests import INSTANCES, isvc
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e

REQUESTS = 5


class Scrape:
    """One page, parsed."""

    def __init__(self, box: Box) -> None:
        self.url = json.loads(box.home.endpoints.read_text())["metrics"]
        with urllib.request.urlopen(self.url, timeout=30) as answer:
            text = answer.read().decode()
        self.samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def sum(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name that have these labels."""
        return sum(sample.value for sample in self.samples if sample.name == name and has(sample.labels, labels))

    def has(self, name: str, **labels: str) -> bool:
        return any(sample.name == name and has(sample.labels, labels) for sample in self.samples)


def has(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return wanted.items() <= labels.items()


def pods(box: Box) -> int:
    return len(box.client.request("GET", "/api/v1/namespaces/default/pods")["items"])


def test_what_a_service_did_is_on_the_page_and_leaves_with_it(box: Box, iris: Path) -> None:
    short = {"autoscaling.knative.dev/window": "6s"}
    box.client.apply(isvc("counted", iris.as_uri(), annotations=short, minReplicas=0))
    box.client.wait_ready("counted", timeout_s=60)
    wait_for("no pods", lambda: not pods(box), timeout_s=60)
    revision = {
        "namespace_name": "default",
        "service_name": "counted-predictor",
        "revision_name": "counted-predictor-00001",
    }
    before = wait_for("scaled to zero", lambda: zero_scrape(box, revision))
    for _ in range(REQUESTS):
        assert box.client.predict("counted", INSTANCES) == {"predictions": [1, 1]}

    def counted() -> Scrape | None:
        scrape = Scrape(box)
        # Envoy puts its threads' times together every 5 s.
        done = scrape.sum("revision_request_latencies_count", **revision) >= REQUESTS
        return scrape if done and scrape.sum("autoscaler_actual_pods", **revision) == 1 else None

    after = wait_for("the requests are on the page", counted)
    assert after.sum("revision_request_count_total", response_code_class="2xx", **revision) == REQUESTS
    assert after.sum("revision_request_latencies_count", **revision) == REQUESTS
    assert after.sum("activator_cold_start_seconds_count", **revision) == 1
    assert after.sum("activator_cold_start_seconds_sum", **revision) > 0
    assert after.sum("activator_request_count_total", response_code="200", **revision) >= 1
    assert after.sum("autoscaler_requested_pods", **revision) == 1
    assert after.sum("autoscaler_desired_pods", **revision) == 1
    assert after.sum("kubelet_started_containers_total") > before.sum("kubelet_started_containers_total")
    for name in ("activator", "apiserver", "controller", "envoy", "node", "processes"):
        assert after.sum("ladle_metrics_source_up", source=name) == 1
    for name in ("inferenceservice", "revision", "deployments", "autoscaler"):
        assert after.sum("controller_reconcile_count_total", reconciler=name, success="true") > 0
    assert after.sum("apiserver_request_total", verb="PATCH") > before.sum("apiserver_request_total", verb="PATCH")
    assert after.sum("ladle_component_resident_memory_bytes", component="envoy") > 2**20

    box.client.delete("counted")
    for name in ("autoscaler_desired_pods", "activator_request_count_total", "revision_request_count_total"):
        wait_for(f"{name} is gone", lambda name=name: not Scrape(box).has(name, **revision), timeout_s=60)


def zero_scrape(box: Box, revision: Mapping[str, str]) -> Scrape | None:
    scrape = Scrape(box)
    zero = scrape.has("autoscaler_actual_pods", **revision) and not scrape.sum("autoscaler_actual_pods", **revision)
    return scrape if zero else None


def test_the_page_says_which_process_does_not_answer(box: Box) -> None:
    activator = box.component("activator")
    assert activator is not None
    os.kill(activator.pid, signal.SIGSTOP)
    try:
        scrape = Scrape(box)
        assert scrape.sum("ladle_metrics_source_up", source="activator") == 0
        assert scrape.sum("ladle_metrics_source_failures_total", source="activator") >= 1
        assert scrape.sum("ladle_metrics_source_up", source="apiserver") == 1
    finally:
        os.kill(activator.pid, signal.SIGCONT)
    wait_for("the activator is back", lambda: Scrape(box).sum("ladle_metrics_source_up", source="activator") == 1)
