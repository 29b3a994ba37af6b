"""Recorded sequences of KServe, step by step on a real onebox with a real model: the same conditions, traffic and events."""

from __future__ import annotations

import copy
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
NAMES = ("canary-promote", "canary-rollback", "stop-and-start", "tag-routing", "scaling-fields")
"""Those that need no foreign image and no pod that is held back by hand; the failing ones stand in test_bad_input.py."""

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.long,
    pytest.mark.skipif(not SEQUENCES.exists(), reason="the reference recordings are not here"),
]


def steps(name: str) -> Iterator[dict[str, Any]]:
    yield from yaml.load_all((SEQUENCES / f"{name}.yaml").read_text(), Loader=yaml.CSafeLoader)


def recorded_service(step: dict[str, Any]) -> dict[str, Any]:
    return next(item for item in step["objects"] if item["kind"] == "InferenceService")


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
        if "apply" in step["did"]:
            box.client.apply(placed(step["did"]["apply"], name, models))
        expected_events |= {(event["type"], event["reason"]) for event in step["events"] or ()}
        if step["did"]["then"].startswith("no pod changes"):
            continue  # A moment that lasts as long as a pod takes to start.
        expected = outcome(recorded_service(step), name)
        wait_for(
            f"{name}, {step['step']}: {expected}",
            lambda expected=expected: outcome(box.client.get(name), name) == expected,
            timeout_s=TIMEOUT_S,
        )
    assert box.client.predict(name, INSTANCES)["predictions"] == [1, 1]
    wait_for(f"events of {name}: {expected_events}", lambda: expected_events <= events_of(box, name))
    box.client.delete(name)


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
