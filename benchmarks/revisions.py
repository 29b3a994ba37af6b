"""What a onebox costs with 10, 100 and 1,000 revisions registered, of which up to 50 are active.

`python -m benchmarks revisions [--sizes 10,100,1000]`. Active ones are InferenceServices of scikit-learn with one pod, each
asked about once a second through the gateway; a few more are at zero and are woken, to see what a first request takes
among so many; the others are Knative Services with min-scale and initial-scale 0, which never had a pod. Everything but
proportional memory is read from the page of metrics, as Prometheus would.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.machine import memory
from benchmarks.start import CASES
from ladle.sdk.client import Client
from onebox.supervisor import supervisor_pid
from tests.e2e.box import Box, start_box
from tests.e2e.manifests import isvc
from tests.waiting import wait_for

SIZES = (10, 100, 1000)
ACTIVE_MAX = 50
ASLEEP, WAKES = 3, 3
"""Services that are woken at each size, and how often each."""
MEASURED_S = 20.0
TICK_BUDGET_MS = 200
COMPONENTS = ("template", "apiserver", "engine", "envoy", "controller", "node", "activator")
REGISTERED_TIMEOUT_S = 600
_LOOK_S = 0.5
_LOOK_EACH_S = 0.002
"""How often the list of services is read to see whether all are ready, and so much less often for each of them: a list of a
thousand is megabytes, and would be a fifth of what the API server does."""
_SENDERS = 8
_AT_ONCE = 8
BODY = json.dumps({"instances": [[0.1, 0.2, 0.3, 0.4]]}).encode()
WINDOW = {"autoscaling.knative.dev/window": "6s"}
_AUTOSCALER = "/api/v1/namespaces/knative-serving/configmaps/config-autoscaler"
_SERVICES = "/apis/serving.knative.dev/v1/namespaces/default/services"

Row = dict[str, str]


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


def main(*, sizes: Sequence[int] = SIZES) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        model.mkdir()
        CASES["scikit-learn"].save(model)
        box = start_box(Path(folder) / "home")
        try:
            allowed = {"data": {"allow-zero-initial-scale": "true"}}
            box.client.request("PATCH", _AUTOSCALER, allowed, content_type="application/merge-patch+json")
            for name in _sleepers():
                box.client.apply(isvc(name, model.as_uri(), annotations=WINDOW, minReplicas=0))
            rows, active, idle = [], 0, 0
            for size in sizes:
                wanted = min(ACTIVE_MAX, size // 2)
                numbers = range(idle, size - wanted - ASLEEP)
                rows.append(_grow(box, model, range(active, wanted), numbers))
                active, idle = wanted, numbers.stop
                rows[-1] |= {**_measure(box, active), **_wake(box)}
                _print(rows)
        finally:
            box.ladle("down")


def _sleepers() -> list[str]:
    return [f"asleep-{number}" for number in range(ASLEEP)]


def _grow(box: Box, model: Path, active: range, idle: range) -> Row:
    """Registers more, and says what one of those that never had a pod took."""
    _activate(box.client, model, active)
    before, revision, began_s = _scrape(box), _revision(box.client), time.perf_counter()
    _register(box.client, idle)
    created_s = time.perf_counter() - began_s
    _wait_registered(box, idle.stop)
    took_s = time.perf_counter() - began_s
    after, writes = _scrape(box), _revision(box.client) - revision

    def cpu_ms(component: str) -> float:
        name = "ladle_component_cpu_seconds_total"
        return 1e3 * (after.sum(name, component=component) - before.sum(name, component=component)) / len(idle)

    shares = ", ".join(f"{name} {cpu_ms(name):.0f}" for name in ("apiserver", "engine", "envoy"))
    return {
        "registered at once": str(len(idle)),
        "until the last was created / Ready, s": f"{created_s:.1f} / {took_s:.1f}",
        "API writes for each": f"{writes / len(idle):.0f}",
        "processor for each, ms": shares,
    }


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
    deadline_s = time.perf_counter() + REGISTERED_TIMEOUT_S
    while (ready := _registered(box)) < count:
        if time.perf_counter() > deadline_s:
            raise TimeoutError(f"{ready} of {count} idle services were ready after {REGISTERED_TIMEOUT_S} s")
        time.sleep(_LOOK_S + count * _LOOK_EACH_S)


def _registered(box: Box) -> int:
    items = box.client.request("GET", _SERVICES)["items"]
    return sum(item["metadata"]["name"].startswith("idle-") and _is_ready(item) for item in items)


def _is_ready(item: Mapping[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in item.get("status", {}).get("conditions", ()))


def _revision(client: Client) -> int:
    return int(client.request("GET", "/api/v1/namespaces?limit=1")["metadata"]["resourceVersion"])


def _measure(box: Box, active: int) -> Row:
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
    shares = {component: _proportional_mib(box, component) for component in (*COMPONENTS, "supervisor")}
    for component in COMPONENTS:
        cores = rate("ladle_component_cpu_seconds_total", component=component)
        row[f"{component}: cores, MiB"] = f"{cores:.3f}, {shares[component]:.0f}"
    cores = rate("ladle_component_cpu_seconds_total")
    row["control plane: cores, MiB"] = f"{cores:.3f}, {sum(shares.values()):.0f}"
    row["load of the machine"] = f"{os.getloadavg()[0]:.1f}"
    return row


def _proportional_mib(box: Box, component: str) -> float:
    if component == "supervisor":
        return memory(supervisor_pid(box.home) or 0)[1]
    process = box.component(component)
    return memory(process.pid)[1] if process else 0.0


def _wake(box: Box) -> Row:
    """What the first request to a service without pods takes among all the others."""
    took_ms = []
    for name in _sleepers() * WAKES:
        service = box.client.wait_ready(name, timeout_s=300)
        wait_for(f"no pod of {name}", lambda name=name: not _pods(box.client, name), timeout_s=300)  # type: ignore[misc]
        began_s = time.perf_counter()
        answer = box.client.send(service, f"/v1/models/{name}:predict", BODY)
        took_ms.append(1e3 * (time.perf_counter() - began_s))
        assert answer.status == 200, answer
    return {"first request from zero, ms: median / slowest": f"{statistics.median(took_ms):.0f} / {max(took_ms):.0f}"}


def _pods(client: Client, name: str) -> list[Any]:
    selector = f"serving.kserve.io/inferenceservice%3D{name}"
    items: list[Any] = client.request("GET", f"/api/v1/namespaces/default/pods?labelSelector={selector}")["items"]
    return items


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


def _print(rows: Sequence[Row]) -> None:
    print("| revisions / active | " + " | ".join(row["revisions / active"] for row in rows) + " |")
    print("|---" * (len(rows) + 1) + "|")
    for name in rows[0]:
        if name != "revisions / active":
            print(f"| {name} | " + " | ".join(row[name] for row in rows) + " |")
    print(flush=True)
