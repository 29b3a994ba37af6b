"""`python -m benchmarks serving [--quick]`: our runtime beside the floor and its peers, then what our own parts cost."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import joblib
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from benchmarks.serving import cases, h2load, rounds
from benchmarks.serving.cases import Case
from benchmarks.serving.rounds import Contender, Effort, Slice, measure, ratio, row
from benchmarks.serving.servers import LADLE, PROGRAMS, Missing, Server, running

CONNECTIONS = (1, 16, 64)
_BATCHED = replace(
    LADLE,
    name="ladle, batching",
    variables={**LADLE.variables, "LADLE_BATCH": "true", "LADLE_BATCH_MAX_LATENCY_MS": "5"},
)


def main(*, quick: bool = False) -> None:
    """Prints everything; says what is missing and goes on without it."""
    if h2load.missing():
        print(h2load.missing())
        return
    effort = rounds.QUICK if quick else rounds.FULL
    print(f"{os.cpu_count()} cores, shared with the load generator; medians of {effort.rounds} interleaved round(s)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _train(folder)
        with contextlib.ExitStack() as stack:
            servers = _start(stack, folder)
            for case, converted in cases.all_cases():
                _compare(case, converted, servers, effort)
            ours = next(server for server in servers if server.name == LADLE.name)
            _queue_proxy(ours, effort)
            _conversion(ours, effort)
            _batching(ours, stack.enter_context(running(_BATCHED, folder, folder)), effort)


def _train(folder: Path) -> None:
    features, labels = load_iris(return_X_y=True)
    estimators = {
        "iris": LogisticRegression(max_iter=1000),
        "forest": RandomForestClassifier(100, random_state=0, n_jobs=1),
    }
    for name, estimator in estimators.items():
        (folder / name).mkdir()
        joblib.dump(estimator.fit(features, labels), folder / name / "model.joblib")


def _start(stack: contextlib.ExitStack, folder: Path) -> list[Server]:
    servers = []
    for program in PROGRAMS:
        try:
            servers.append(stack.enter_context(running(program, folder, folder)))
        except Missing as reason:
            print(f"MISSING: {program.name}: {reason}")
    return servers


def _compare(case: Case, converted: Case | None, servers: Sequence[Server], effort: Effort) -> None:
    contenders = []
    print(f"\n{case.name}")
    for server in servers:
        port = server.grpc_port if case.is_grpc else server.http_port
        if not port:
            continue
        refusal = case.refusal(port)
        if refusal:
            print(f"  {server.name}: no answer to compare, but {refusal}")
        else:
            contenders.append(Contender(server.name, server.pid, port, case))
            if server.name == LADLE.name and converted is not None:
                contenders.append(Contender("ladle, model in ONNX", server.pid, port, converted))
    for connections in CONNECTIONS:
        print(f" {connections} connection(s)")
        found = measure(contenders, connections=connections, effort=effort)
        for name, slices in found.items():
            ours = f"  ladle is {ratio(found[LADLE.name], slices)}" if name != LADLE.name else ""
            print(row(name, slices) + ours, flush=True)


def _queue_proxy(ours: Server, effort: Effort) -> None:
    case = cases.v2_json("iris")
    guarded = Contender("with queue-proxy", ours.pid, ours.http_port, case)
    _pair(
        "Queue-proxy in process, V2 JSON", [guarded, replace(guarded, name="without", port=ours.http_port + 1)], effort
    )


def _conversion(ours: Server, effort: Effort) -> None:
    for model in ("iris", "forest"):
        converted, plain = (
            Contender(name, ours.pid, ours.http_port, cases.v2_json(f"{model}{ending}"))
            for name, ending in (("ONNX", "-onnx"), ("scikit-learn", ""))
        )
        _pair(f"Conversion to ONNX, {model}, one row, V2 JSON", [converted, plain], effort)


def _batching(plain: Server, batched: Server, effort: Effort) -> None:
    for model in ("iris", "forest"):
        contenders = [
            Contender(name, server.pid, server.http_port, cases.v2_json(model))
            for name, server in (("batches of 32, 5 ms", batched), ("one by one", plain))
        ]
        _pair(f"Batching, {model}, V2 JSON", contenders, effort)


def _pair(title: str, contenders: Sequence[Contender], effort: Effort) -> None:
    print(f"\n{title}")
    for connections in CONNECTIONS:
        found: dict[str, list[Slice]] = measure(contenders, connections=connections, effort=effort)
        (first, ours), (second, other) = found.items()
        print(f" {connections} connection(s): {ratio(ours, other)}")
        for name, slices in ((first, ours), (second, other)):
            print(row(name, slices), flush=True)
