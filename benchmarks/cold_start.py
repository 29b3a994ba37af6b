"""How long the first request to a service without pods takes, and where the time goes.

`python -m benchmarks cold_start [--count N]`. A few services of each runtime, with the shortest window that Knative allows
(6 s) and minReplicas 0; on onebox the grace before the last pod goes is 1 s. A round asks each service once, one after the
other, through the gateway, each when the one before has told its statuses; the next round begins when no pod is left of the
last one, so that nothing ends while something starts. The stages are read from the logs of the processes that did them, and
the clock is the machine's.
"""

from __future__ import annotations

import datetime
import importlib.util
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.start import CASES
from ladle.sdk.client import Client
from tests.e2e.box import Box, start_box
from tests.e2e.manifests import isvc
from tests.waiting import wait_for

RUNTIMES: Mapping[str, tuple[str, str]] = {
    "sklearn": ("scikit-learn", "sklearn"),
    "onnx": ("ONNX", "onnx"),
    "pytorch": ("PyTorch, TorchScript", "pytorch"),
}
"""By name: the model of benchmarks.start, and the format in the manifest."""
COUNT = 100
SERVICES = 5
"""Of each runtime: so many cold starts are measured between two waits for the pods to go."""
PAUSE_S = 0.3
"""Between two requests. What a start leads to after its answer takes 0.05 s (measured 2026-11-21), and all of a round's
have to fit into the window."""
BUDGET_P50_MS, BUDGET_P99_MS = 100, 250
WINDOW = {"autoscaling.knative.dev/window": "6s"}
BODY = json.dumps({"instances": [[0.1, 0.2, 0.3, 0.4]]}).encode()

Stages = Mapping[str, float]
"""Seconds of the epoch at which each stage was reached."""

STAGES: tuple[tuple[str, str], ...] = (
    ("scaled", "request held → replicas written"),
    # The node hears of the pod before the controller that made it has its answer, and says so.
    ("initialized", "→ pod created, model files in place"),
    ("forked", "→ server started"),
    ("loaded", "→ model loaded"),
    ("listening", "→ server listens"),
    ("answered", "→ found, forwarded, answered"),
)


@dataclass(frozen=True, slots=True)
class ColdStart:
    """One measured request."""

    took_ms: float
    parts_ms: Mapping[str, float]


def main(*, count: int = COUNT) -> None:
    with tempfile.TemporaryDirectory() as folder:
        models = _models(Path(folder))
        box = start_box(Path(folder) / "home")
        try:
            names = {runtime: _services(box.client, runtime, model) for runtime, model in models.items()}
            found: dict[str, list[ColdStart]] = {runtime: [] for runtime in models}
            while min(map(len, found.values())) < count:
                _round(box, names, found)
        finally:
            box.ladle("down")
    _print({runtime: starts[:count] for runtime, starts in found.items()})


def _models(folder: Path) -> Mapping[str, Path]:
    found = {}
    for runtime, (case, _) in RUNTIMES.items():
        if importlib.util.find_spec(CASES[case].library) is None:
            print(f"{runtime}: {CASES[case].library} is not installed")
            continue
        found[runtime] = folder / runtime
        found[runtime].mkdir()
        CASES[case].save(found[runtime])
    return found


def _services(client: Client, runtime: str, model: Path) -> list[str]:
    names = [f"{runtime}-{number}" for number in range(SERVICES)]
    for name in names:
        model_format = RUNTIMES[runtime][1]
        client.apply(isvc(name, model.as_uri(), annotations=WINDOW, model_format=model_format, minReplicas=0))
    for name in names:
        client.wait_ready(name, timeout_s=180)
    return names


def _round(box: Box, names: Mapping[str, list[str]], found: dict[str, list[ColdStart]]) -> None:
    client = box.client
    wait_for("no pods", lambda: not client.request("GET", "/api/v1/namespaces/default/pods")["items"], timeout_s=180)
    for number in range(SERVICES):
        for runtime, services in names.items():
            time.sleep(PAUSE_S)
            found[runtime].append(_measure(box, client.get(services[number]), services[number]))


def _measure(box: Box, service: Mapping[str, Any], name: str) -> ColdStart:
    logs = [box.home.logs / f"{component}.log" for component in ("engine", "node")]
    sizes = [log.stat().st_size for log in logs]
    held_s = time.time()
    answer = box.client.send(service, f"/v1/models/{name}:predict", BODY)
    answered_s = time.time()
    assert answer.status == 200, answer
    lines = [line for log, size in zip(logs, sizes, strict=True) for line in _lines(log, size)]
    for log in box.home.pod_logs.glob(f"default_{name}-*/kserve-container/0.log"):
        lines += _lines(log, 0)
    reached = {**_reached(lines, name), "answered": answered_s}
    parts, before_s = {}, held_s
    for stage, _ in STAGES:
        if stage in reached:
            parts[stage], before_s = (reached[stage] - before_s) * 1e3, reached[stage]
    return ColdStart((answered_s - held_s) * 1e3, parts)


def _lines(path: Path, offset: int) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if line.startswith(b"{"):
                yield json.loads(line)


def _reached(lines: list[dict[str, Any]], name: str) -> Stages:
    events = {
        ("scaled", "onebox.knative.autoscaler.autoscaler", None): "scaled",
        ("ended", "onebox.node.worker", "storage-initializer"): "initialized",
        ("started", "onebox.node.worker", "kserve-container"): "forked",
        ("listening", None, None): "listening",
        ("model loaded", None, None): "loaded",
    }
    reached = {}
    for line in lines:
        about = f"{line.get('revision', '')} {line.get('pod', '')}"
        if line.get("source", "").startswith("onebox.") and f"{name}-predictor-" not in about:
            continue
        stage = events.get((line["event"], line.get("source"), line.get("container")))
        if stage is not None:
            reached.setdefault(stage, datetime.datetime.fromisoformat(line["timestamp"]).timestamp())
    return reached


def _print(found: Mapping[str, list[ColdStart]]) -> None:
    runtimes = list(found)
    print("| first answer from zero | " + " | ".join(runtimes) + " | budget |")
    print("|---" * (len(runtimes) + 2) + "|")
    took = {runtime: [start.took_ms for start in starts] for runtime, starts in found.items()}
    cuts = {runtime: statistics.quantiles(values, n=100, method="inclusive") for runtime, values in took.items()}
    print(f"| measured | {' | '.join(str(len(took[each])) for each in runtimes)} | |")
    print(f"| p50, ms | {' | '.join(f'{cuts[each][49]:.0f}' for each in runtimes)} | {BUDGET_P50_MS} |")
    print(f"| p99, ms | {' | '.join(f'{cuts[each][98]:.0f}' for each in runtimes)} | {BUDGET_P99_MS} |")
    print("\n| median of each part, ms | " + " | ".join(runtimes) + " |")
    print("|---" * (len(runtimes) + 1) + "|")
    for stage, text in STAGES:
        cells = []
        for runtime in runtimes:
            values = [start.parts_ms[stage] for start in found[runtime] if stage in start.parts_ms]
            cells.append(f"{statistics.median(values):.1f}" if values else "not seen")
        print(f"| {text} | {' | '.join(cells)} |")
