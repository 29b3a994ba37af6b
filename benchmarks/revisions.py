"""What a onebox costs with 10, 100 and 1,000 revisions registered, of which up to 50 are active.

`python -m benchmarks revisions`. Active ones are InferenceServices of scikit-learn with one pod, each asked about once a second
through the gateway; the others are Knative Services with min-scale and initial-scale 0, which never had a pod. Everything but
proportional memory is read from the page of metrics, as Prometheus would.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.start import CASES
from ladle.sdk.client import Client
from tests.e2e.box import Box, start_box
from tests.e2e.manifests import isvc
from tests.waiting import wait_for

SIZES = (10, 100, 1000)
ACTIVE_MAX = 50
MEASURED_S = 30.0
TICK_BUDGET_MS = 200
_SENDERS = 8
_AT_ONCE = 8
BODY = json.dumps({"instances": [[0.1, 0.2, 0.3, 0.4]]}).encode()
_AUTOSCALER = "/api/v1/namespaces/knative-serving/configmaps/config-autoscaler"
_SERVICES = "/apis/serving.knative.dev/v1/namespaces/default/services"


@dataclass(frozen=True, slots=True)
class Page:
    """One scrape: sums of samples by name and labels, what it took, and how large it was."""

    samples: Mapping[tuple[str, tuple[tuple[str, str], ...]], float]
    took_s: float
    size_bytes: int
    at_s: float

    def sum(self, name: str, **labels: str) -> float:
        wanted = set(labels.items())
        return sum(value for (found, has), value in self.samples.items() if found == name and wanted <= set(has))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        model.mkdir()
        CASES["scikit-learn"].save(model)
        box = start_box(Path(folder) / "home")
        try:
            allowed = {"data": {"allow-zero-initial-scale": "true"}}
            box.client.request("PATCH", _AUTOSCALER, allowed, content_type="application/merge-patch+json")
            rows, active, registered = [], 0, 0
            for size in SIZES:
                wanted = min(ACTIVE_MAX, size // 2)
                began_s = time.perf_counter()
                _activate(box.client, model, range(active, wanted))
                _register(box.client, range(registered, size - wanted))
                active, registered = wanted, size - wanted
                _wait_registered(box, registered)
                rows.append({"registered in, s": f"{time.perf_counter() - began_s:.0f}", **_measure(box, active)})
        finally:
            box.ladle("down")
    _print(rows)


def _activate(client: Client, model: Path, numbers: range) -> None:
    names = [f"active-{number}" for number in numbers]
    for name in names:
        client.apply(isvc(name, model.as_uri(), minReplicas=1))
    for name in names:
        client.wait_ready(name, timeout_s=300)


def _register(client: Client, numbers: range) -> None:
    def create(number: int) -> None:
        client.request("POST", _SERVICES, _idle_service(f"idle-{number}"))

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(create, numbers))


def _idle_service(name: str) -> dict[str, Any]:
    annotations = {"autoscaling.knative.dev/min-scale": "0", "autoscaling.knative.dev/initial-scale": "0"}
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "template": {
                "metadata": {"annotations": annotations},
                "spec": {"containers": [{"image": "kserve/sklearnserver:latest"}]},
            }
        },
    }


def _wait_registered(box: Box, count: int) -> None:
    def ready() -> bool:
        items = box.client.request("GET", _SERVICES)["items"]
        idle = [item for item in items if item["metadata"]["name"].startswith("idle-")]
        return len(idle) == count and all(map(_is_ready, idle))

    wait_for(f"{count} idle services ready", ready, timeout_s=900)


def _is_ready(item: Mapping[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in item.get("status", {}).get("conditions", ()))


def _measure(box: Box, active: int) -> dict[str, str]:
    with _asking(box.client, active):
        before = _scrape(box)
        time.sleep(MEASURED_S)
        after = _scrape(box)
    elapsed_s = after.at_s - before.at_s

    def rate(name: str, **labels: str) -> float:
        return (after.sum(name, **labels) - before.sum(name, **labels)) / elapsed_s

    ticks = rate("autoscaler_tick_seconds_count")
    row = {
        "revisions / active": f"{len(_revisions(after))} / {active}",
        "requests/s": f"{rate('revision_request_count_total'):.0f}",
        f"tick, ms (budget {TICK_BUDGET_MS})": f"{1e3 * rate('autoscaler_tick_seconds_sum') / ticks:.1f}",
        "API requests/s, watches apart": f"{rate('apiserver_request_duration_seconds_count'):.1f}",
        "page of metrics": f"{after.size_bytes / 2**20:.2f} MiB in {1e3 * after.took_s:.0f} ms",
    }
    for component in ("apiserver", "engine", "envoy", "controller", "node", "activator"):
        cores = rate("ladle_component_cpu_seconds_total", component=component)
        mib = after.sum("ladle_component_resident_memory_bytes", component=component) / 2**20
        row[f"{component}: cores, MiB"] = f"{cores:.3f}, {mib:.0f}"
    cores = rate("ladle_component_cpu_seconds_total")
    row["all: cores, MiB"] = f"{cores:.3f}, {after.sum('ladle_component_resident_memory_bytes') / 2**20:.0f}"
    return row


def _revisions(page: Page) -> set[tuple[tuple[str, str], ...]]:
    return {labels for name, labels in page.samples if name == "autoscaler_desired_pods"}


def _scrape(box: Box) -> Page:
    url = json.loads(box.home.endpoints.read_text())["metrics"]
    started_s = time.perf_counter()
    with urllib.request.urlopen(url, timeout=60) as answer:
        content = answer.read()
    at_s = time.perf_counter()
    families = text_string_to_metric_families(content.decode())
    samples = {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}
    return Page(samples, at_s - started_s, len(content), at_s)


@contextmanager
def _asking(client: Client, active: int) -> Iterator[None]:
    """Asks each active service about once a second until the block ends."""
    services = [client.get(f"active-{number}") for number in range(active)]
    stop = threading.Event()

    def send(mine: list[dict[str, Any]]) -> None:
        while not stop.wait(1 / max(1, len(mine))):
            service = mine[0]
            mine.append(mine.pop(0))
            answer = client.send(service, f"/v1/models/{service['metadata']['name']}:predict", BODY)
            assert answer.status == 200, answer

    shares = [services[number::_SENDERS] for number in range(min(_SENDERS, active))]
    threads = [threading.Thread(target=send, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _print(rows: list[dict[str, str]]) -> None:
    print("| revisions / active | " + " | ".join(row["revisions / active"] for row in rows) + " |")
    print("|---" * (len(rows) + 1) + "|")
    for name in rows[0]:
        if name != "revisions / active":
            print(f"| {name} | " + " | ".join(row[name] for row in rows) + " |")
