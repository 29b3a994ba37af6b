"""Knative's own verdicts on Services, recorded; ours are the same, at the same fields, in the same words."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from controller.api.admission import AdmissionRequest, Operation
from controller.base.errors import Invalid
from onebox.knative.admission import ServingAdmission
from tests.onebox.knative.recordings import LONG, RECORDINGS, SERVICES, find, load, needs_recordings, recorded_settings

pytestmark = needs_recordings

WORDED_OTHERWISE = {
    "bad-tag": "Knative names the field spec.traffic.tag[0]; the field is spec.traffic[0].tag",
    "port-udp": "Knative leaves the index of the port out",
    "host-port": "the schema refuses it before admission; admission alone would forbid it too",
    "lifecycle": "the schema refuses it before admission; admission alone would forbid it too",
    "stdin": "the schema refuses it before admission; admission alone would forbid it too",
    "name-uppercase": "the API server refuses it before admission; admission alone would refuse it as no DNS-1035 label",
    "volume-unused-hostpath": "we add which feature flag permits it, and once is enough",
}


def cases() -> list[Any]:
    path = RECORDINGS / "admission.yaml"
    recorded = yaml.safe_load(path.read_text()) if path.exists() else []
    return [pytest.param(case, id=case["case"]) for case in recorded]


def create(service: dict[str, Any]) -> AdmissionRequest:
    return AdmissionRequest(
        operation=Operation.CREATE,
        group="serving.knative.dev",
        kind="Service",
        namespace="golden",
        name=service["metadata"]["name"],
        object=service,
        user="admin",
    )


def test_no_recorded_verdict_is_missed() -> None:
    assert len(cases()) >= 52


@pytest.mark.parametrize("case", cases())
def test_verdict_on_a_service_is_the_recorded_one(case: dict[str, Any]) -> None:
    admit = ServingAdmission(recorded_settings).service
    if case["accepted"]:
        assert admit(create(case["service"]))["spec"]["traffic"]
        return
    with pytest.raises(Invalid) as refused:
        admit(create(case["service"]))
    if case["case"] not in WORDED_OTHERWISE:
        for error in refused.value.errors:
            assert error.field in case["message"]
            for part in error.message.split(": "):  # Knative puts the field between a message and its details.
                assert part in case["message"]


@pytest.mark.parametrize("name", [*SERVICES, LONG])
def test_defaults_are_the_recorded_ones(name: str) -> None:
    (manifest,) = load(f"in/{name}.yaml")
    for container in manifest["spec"]["template"]["spec"]["containers"]:
        for port in container.get("ports", []):
            port.setdefault("protocol", "TCP")  # The schema's default, which is filled in before admission.
    stored = ServingAdmission(recorded_settings).service(create(manifest))
    recorded = find(load(f"created/{name}.yaml"), "Service", group="serving")
    assert stored["spec"] == recorded["spec"]
    assert stored["metadata"].get("annotations") == recorded["metadata"].get("annotations")
