"""Recorded sequences of KServe, step by step on a real onebox with a real model: the same conditions, traffic and events."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.box import ROOT, Box
from tests.e2e.manifests import INSTANCES, V2_REQUEST
from tests.waiting import wait_for

SEQUENCES = ROOT / "../shared/golden/kserve/sequences"
TIMEOUT_S = 100.0
NAMES = (
    "canary-promote", "canary-rollback", "deleted", "logger-and-batcher", "scaling-fields", "stop-and-start", "tag-routing",
    "transformer-comes-and-goes",
)  # fmt: skip
LEFT_OUT = {
    "canary-failing": "pods fail by hand; with real failures in test_bad_input.py and test_broken_changes.py",
    "collocated": "KServe's own recording ends in a refused image name; test_transformers.py runs the form",
    "credentials": "needs S3; test_storage.py and test_kserve_sdk.py have one",
    "first-failing": "a container is made to fail and to recover by hand; test_bad_input.py",
    "graph": "InferenceGraphs come later",
    "runtime-appears": "its ServingRuntime names a foreign image; tests/controller/inferenceservice/test_controller.py",
    "runtime-problems": "each step is refused or blocked; test_broken_changes.py breaks services that serve in these ways",
    "standard-mode": "Standard mode comes later",
}
"""The recorded sequences that do not run here, and where else what they show is tested."""
HELD_BACK = ("no pod changes", "only the predictor's pods")
"""Moments that last as long as a pod takes to start: nobody holds pods back here."""
TRANSFORMER = {"name": "kserve-container", "image": "example.com/halves"}

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.long,
    pytest.mark.skipif(not SEQUENCES.exists(), reason="the reference recordings are not here"),
]


def steps(name: str) -> Iterator[dict[str, Any]]:
    yield from yaml.load_all((SEQUENCES / f"{name}.yaml").read_text(), Loader=yaml.CSafeLoader)


def recorded_service(step: dict[str, Any]) -> dict[str, Any]:
    return next(item for item in step["objects"] if item["kind"] == "InferenceService")


def recorded_outcome(step: dict[str, Any], name: str) -> dict[str, Any]:
    """What KServe ended in, but for what it leaves behind of components that are gone (docs/differences.md)."""
    service = recorded_service(step)
    found = outcome(service, name)
    if "transformer" not in service["spec"]:
        kept = found["conditions"].items()
        found["conditions"] = {type_: said for type_, said in kept if not type_.startswith("Transformer")}
    return found


def outcome(service: dict[str, Any], name: str) -> dict[str, Any]:
    """What a step ends in, with the service's name as `name`: host names and times differ from machine to machine."""
    status = service.get("status") or {}
    own = service["metadata"]["name"]
    traffic = (status.get("components") or {}).get("predictor", {}).get("traffic") or []
    return {
        "conditions": {item["type"]: (item["status"], item.get("reason")) for item in status.get("conditions") or ()},
        "traffic": [
            (item["revisionName"].replace(own, name, 1), item.get("percent") or 0, item.get("tag")) for item in traffic
        ],
    }


def placed(manifest: dict[str, Any], name: str, models: Path) -> dict[str, Any]:
    """The recorded manifest under a name of its own, with a model that is on this machine."""
    changed = copy.deepcopy(manifest)
    changed["metadata"] |= {"name": name, "namespace": "default"}
    model = changed["spec"]["predictor"]["model"]
    version = "b" if "/2.0/" in model["storageUri"] else "a"
    model["storageUri"] = f"file://{models / version}"
    if "transformer" in changed["spec"]:
        command = [sys.executable, str(ROOT / "examples/transformer/halves.py")]
        changed["spec"]["transformer"]["containers"] = [{**TRANSFORMER, "command": command}]
    return changed


@pytest.fixture
def models(tmp_path: Path, iris: Path) -> Path:
    """Two directories with the same model: two revisions."""
    for version in ("a", "b"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "model.joblib").write_bytes((iris / "model.joblib").read_bytes())
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_each_step_ends_as_kserves_did(name: str, box: Box, models: Path) -> None:
    expected_events: set[tuple[str, str]] = set()
    for step in steps(name):
        did = step["did"]
        if "apply" in did:
            box.client.apply(placed(did["apply"], name, models))
        expected_events |= {(event["type"], event["reason"]) for event in step["events"] or ()}
        if "delete" in did:
            box.client.delete(name)
            wait_for(f"nothing of {name} is left", lambda: not left_of(box, name), timeout_s=TIMEOUT_S)
            return  # Its events went with it.
        if did.get("then", step["step"]).startswith(HELD_BACK):
            continue
        expected = recorded_outcome(step, name)
        wait_for(
            f"{name}, {step['step']}: {expected}",
            lambda expected=expected: outcome(box.client.get(name), name) == expected,
            timeout_s=TIMEOUT_S,
        )
    assert box.client.predict(name, INSTANCES)["predictions"] == [1, 1]
    wait_for(f"events of {name}: {expected_events}", lambda: expected_events <= events_of(box, name))
    box.client.delete(name)


def test_every_recorded_sequence_runs_or_is_left_out_for_a_reason() -> None:
    assert {path.stem for path in SEQUENCES.glob("*.yaml")} == {*NAMES, *LEFT_OUT}
    assert not set(NAMES) & set(LEFT_OUT)


def left_of(box: Box, name: str) -> list[str]:
    """What there is of a service: itself, its children, their pods."""
    kinds = {
        "inferenceservices": "/apis/serving.kserve.io/v1beta1",
        "services": "/apis/serving.knative.dev/v1",
        "virtualservices": "/apis/networking.istio.io/v1",
        "pods": "/api/v1",
    }
    found = []
    for kind, root in kinds.items():
        items = box.client.request("GET", f"{root}/namespaces/default/{kind}")["items"]
        names = (item["metadata"]["name"] for item in items)
        found += [f"{kind}/{item}" for item in names if item == name or item.startswith(f"{name}-")]
    return found


def events_of(box: Box, name: str) -> set[tuple[str, str]]:
    found = box.client.request("GET", "/api/v1/namespaces/default/events")["items"]
    mine = (item for item in found if item["involvedObject"]["name"] == name)
    return {(item["type"], item["reason"]) for item in mine if item["involvedObject"]["kind"] == "InferenceService"}


def test_kserves_runtimes_serve_by_their_names_or_say_what_is_missing(box: Box, models: Path) -> None:
    mlserver = placed(next(iter(steps("canary-promote")))["did"]["apply"], "by-mlserver", models)
    mlserver["spec"]["predictor"]["model"] |= {"runtime": "kserve-mlserver", "protocolVersion": "v2"}
    foreign = placed(next(iter(steps("canary-promote")))["did"]["apply"], "by-tensorflow", models)
    foreign["spec"]["predictor"]["model"] |= {"modelFormat": {"name": "tensorflow"}}
    for manifest in (mlserver, foreign):
        box.client.apply(manifest)
    blocked = wait_for(
        "the service of a server that is not here says so",
        lambda: outcome(box.client.get("by-tensorflow"), "x")["conditions"].get("PredictorReady"),
    )
    assert blocked == ("False", "RuntimeUnavailable")
    served = box.client.wait_ready("by-mlserver", timeout_s=TIMEOUT_S)
    assert served["status"]["clusterServingRuntimeName"] == "kserve-mlserver"
    assert box.client.predict("by-mlserver", V2_REQUEST)["outputs"][0]["data"] == [1, 1]
    for name in ("by-mlserver", "by-tensorflow"):
        box.client.delete(name)
