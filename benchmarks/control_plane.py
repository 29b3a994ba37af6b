"""How fast, how small and how quiet the whole of onebox is.

apply → Ready for 1, 20 and 100 services, API writes for each, writes and processor time at rest, memory of every process,
the first answer from zero, and the gateway beside the pod. The reference is Kubernetes with Knative and KServe as
recorded for the design: kube-apiserver, etcd, controller-manager, Knative's three and KServe's manager, whose pods were
ready the moment they existed; here each pod's process really starts. No peer runs in the same run: it needs a cluster.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import joblib
from sklearn.datasets import load_iris
from sklearn.svm import SVC

from benchmarks import load, machine
from ladle.sdk.client import Client
from onebox.components import read_components
from onebox.node.template import TEMPLATE_VARIABLE
from onebox.processes import processes_of
from onebox.supervisor import supervisor_pid
from tests.e2e.box import Box, start_box
from tests.e2e.manifests import INSTANCES, isvc
from tests.waiting import wait_for

REFERENCE_READY_S: Mapping[int, float] = {1: 0.5, 20: 10.0, 100: 56.0}
REFERENCE_WRITES = 98
REFERENCE_REST_WRITES_PER_S = 10.0
REFERENCE_REST_CORES = 0.23
REFERENCE_MEMORY_MB: Mapping[int, float] = {1: 1900.0, 100: 2300.0}
"""All from the project's design, section 7: the same kind of machine, 2 cores."""
MEMORY_BUDGET_MB: Mapping[int, float] = {1: 350.0, 100: 600.0}
MODEL_TEMPLATE = "model template"
REST_S = 15.0
COLD_STARTS = 20
LOAD_S = 5.0


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = _train(Path(folder))
        started_s = time.perf_counter()
        box = start_box(Path(folder) / "home")
        print(f"ladle up --detach: {time.perf_counter() - started_s:.1f} s")
        try:
            _measure(box, model)
        finally:
            box.ladle("down")


def _train(folder: Path) -> str:
    (folder / "iris").mkdir()
    features, labels = load_iris(return_X_y=True)
    joblib.dump(SVC(gamma="scale").fit(features, labels), folder / "iris" / "model.joblib")
    return (folder / "iris").as_uri()


def _measure(box: Box, model: str) -> None:
    _apply_to_ready(box, ["first"], model, note=" (templates cold)")
    for count in (1, 20):
        _apply_to_ready(box, [f"n{count}-{number}" for number in range(count)], model)
    _memory(box, services=1)
    _cold_starts(box, model)
    _gateway(box)
    _remove(box)
    names = [f"n100-{number}" for number in range(100)]
    _apply_to_ready(box, names, model)
    _rest(box)
    _memory(box, services=100)


def _revision(client: Client) -> int:
    return int(client.request("GET", "/api/v1/namespaces?limit=1")["metadata"]["resourceVersion"])


def _apply_to_ready(box: Box, names: list[str], model: str, *, note: str = "") -> None:
    client = box.client
    before, started_s = _revision(client), time.perf_counter()
    for name in names:
        client.apply(isvc(name, model))
    applied_s = time.perf_counter() - started_s
    wait_for("all ready", lambda: _ready(client, names) == len(names), timeout_s=300)
    ready_s = time.perf_counter() - started_s
    writes = (_revision(client) - before) / len(names)
    reference_s = REFERENCE_READY_S[len(names)]
    print(
        f"apply -> Ready, {len(names)} services{note}: {ready_s:.2f} s (applied after {applied_s:.2f} s), "
        f"reference {reference_s} s, ratio {ready_s / reference_s:.2f}; "
        f"{writes:.0f} API writes each, reference {REFERENCE_WRITES}, ratio {writes / REFERENCE_WRITES:.2f}"
    )


def _ready(client: Client, names: list[str]) -> int:
    wanted = set(names)
    return sum(item["metadata"]["name"] in wanted and _is_ready(item) for item in client.list("default"))


def _is_ready(item: Mapping[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in item.get("status", {}).get("conditions", ()))


def _control_plane(box: Box) -> dict[int, str]:
    """Every process that is not a pod, by name: components, the supervisor, the templates of model servers."""
    found = {supervisor_pid(box.home) or 0: "supervisor"}
    for component in read_components(box.home):
        process = box.component(component.name)
        assert process is not None, f"{component.name} does not run"
        found[process.pid] = component.name
    pods = {process.pid for process in box.containers().values()}
    for process, environment in processes_of(box.home.root):
        if process.pid not in pods and process.pid not in found:
            found[process.pid] = MODEL_TEMPLATE if TEMPLATE_VARIABLE in environment else "spare"
    return found


def _memory(box: Box, *, services: int) -> None:
    rows = {f"{name} ({pid})": machine.memory(pid) for pid, name in _control_plane(box).items()}
    print(f"memory with {services} service(s), MiB resident / proportional:")
    for name, (resident, proportional) in sorted(rows.items()):
        print(f"  {name:<22} {resident:6.0f} {proportional:6.0f}")
    templates = sum(row[1] for name, row in rows.items() if name.startswith(MODEL_TEMPLATE))
    plane = sum(row[1] for row in rows.values()) - templates
    reference, budget = REFERENCE_MEMORY_MB[services], MEMORY_BUDGET_MB[services]
    print(
        f"  control plane {plane:.0f} proportional (budget {budget:.0f}; reference {reference:.0f} resident, ratio "
        f"{plane / reference:.2f}); templates of model servers {templates:.0f} beside it"
    )


def _rest(box: Box) -> None:
    client, pids = box.client, list(_control_plane(box))
    writes, used_s, started_s = _revision(client), machine.cpu_s(pids), time.perf_counter()
    time.sleep(REST_S)
    elapsed_s = time.perf_counter() - started_s
    writes_per_s = (_revision(client) - writes) / elapsed_s
    cores = (machine.cpu_s(pids) - used_s) / elapsed_s
    print(
        f"at rest with 100 services: {writes_per_s:.2f} writes/s (reference {REFERENCE_REST_WRITES_PER_S}), "
        f"{cores:.3f} cores (reference {REFERENCE_REST_CORES}), ratio {cores / REFERENCE_REST_CORES:.2f}"
    )


def _cold_starts(box: Box, model: str) -> None:
    client = box.client
    client.apply(isvc("cold", model, annotations={"autoscaling.knative.dev/window": "6s"}, minReplicas=0))
    service = client.wait_ready("cold")
    body = json.dumps(INSTANCES).encode()
    latencies_ms = []
    for _ in range(COLD_STARTS):
        wait_for("no pods", lambda: not _pods(client, "cold"), timeout_s=60)
        started_s = time.perf_counter()
        answer = client.send(service, "/v1/models/cold:predict", body)
        latencies_ms.append((time.perf_counter() - started_s) * 1e3)
        assert answer.status == 200, answer
    latencies_ms.sort()
    print(
        f"request -> first answer from zero, {COLD_STARTS} times: median {latencies_ms[COLD_STARTS // 2]:.0f} ms, "
        f"max {latencies_ms[-1]:.0f} ms"
    )
    client.delete("cold")


def _pods(client: Client, name: str) -> list[Any]:
    selector = f"serving.kserve.io/inferenceservice%3D{name}"
    items: list[Any] = client.request("GET", f"/api/v1/namespaces/default/pods?labelSelector={selector}")["items"]
    return items


def _gateway(box: Box) -> None:
    pod = _pods(box.client, "first")[0]
    ports = json.loads(pod["metadata"]["annotations"]["onebox.ladle.dev/ports"])
    settings = box.home.settings()
    body = json.dumps(INSTANCES).encode()
    path = "/v1/models/first:predict"
    headers = {"Content-Type": "application/json"}
    direct = load.Target(port=ports["8012"], path=path, headers=headers, body=body)
    host = {"Host": f"first.default.localhost:{settings.gateway_port}"}
    gateway = load.Target(port=settings.gateway_port, path=path, headers={**headers, **host}, body=body)
    for connections in (1, 16):
        through = load.run(gateway, connections=connections, duration_s=LOAD_S)
        without = load.run(direct, connections=connections, duration_s=LOAD_S)
        print(
            f"{connections} connections: gateway {through.requests_per_s:.0f}/s p50 {through.p50_ms:.2f} p99 "
            f"{through.p99_ms:.2f} ms; pod itself {without.requests_per_s:.0f}/s p50 {without.p50_ms:.2f} p99 "
            f"{without.p99_ms:.2f} ms; ratio {through.requests_per_s / without.requests_per_s:.2f}; "
            f"failures {through.failures + without.failures}"
        )


def _remove(box: Box) -> None:
    for item in box.client.list("default"):
        box.client.delete(item["metadata"]["name"])
    wait_for(
        "no pods", lambda: not box.client.request("GET", "/api/v1/namespaces/default/pods")["items"], timeout_s=120
    )
