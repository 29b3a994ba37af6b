"""What cannot work says so where the user looks, and harms nobody else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.box import Box
from tests.e2e.manifests import INSTANCES, isvc
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e


def status_of(box: Box, name: str) -> dict[str, Any]:
    status: dict[str, Any] = box.client.get(name).get("status", {})
    return status


def condition(status: dict[str, Any], type_: str) -> str:
    return next((c["status"] for c in status.get("conditions", ()) if c["type"] == type_), "")


def failed(box: Box, name: str, reason: str) -> str:
    """The failure message of a service once its predictor is not ready for `reason`."""

    def failure() -> str:
        status = status_of(box, name)
        info = status.get("modelStatus", {}).get("lastFailureInfo", {})
        matches = condition(status, "PredictorReady") == "False" and info.get("reason") == reason
        return info.get("message", "") if matches else ""

    return wait_for(f"{name} fails with {reason}", failure, timeout_s=45)


@pytest.fixture(scope="module")
def neighbour(box: Box, iris: Path) -> str:
    box.client.apply(isvc("neighbour", iris.as_uri()))
    box.client.wait_ready("neighbour", timeout_s=60)
    return "neighbour"


def test_a_model_path_that_does_not_exist_is_named(box: Box, neighbour: str) -> None:
    box.client.apply(isvc("nowhere", "file:///does/not/exist"))
    assert "file:///does/not/exist" in failed(box, "nowhere", "ModelLoadFailed")
    assert box.client.predict(neighbour, INSTANCES) == {"predictions": [1, 1]}
    box.client.delete("nowhere")


def test_a_model_file_that_cannot_be_loaded_shows_the_exception(box: Box, neighbour: str, tmp_path: Path) -> None:
    (tmp_path / "model.joblib").write_bytes(b"this is no model")
    box.client.apply(isvc("garbage", tmp_path.as_uri()))
    message = failed(box, "garbage", "ModelLoadFailed")
    assert "model.joblib" in message
    assert "Error" in message
    assert box.client.predict(neighbour, INSTANCES) == {"predictions": [1, 1]}
    box.client.delete("garbage")


def test_an_unknown_format_names_itself_and_what_exists(box: Box, iris: Path) -> None:
    box.client.apply(isvc("exotic", iris.as_uri(), model_format="fortran-punchcard"))
    message = failed(box, "exotic", "NoSupportingRuntime")
    assert "fortran-punchcard" in message
    assert "sklearn" in message
    box.client.delete("exotic")


def test_a_wrong_field_is_named_and_nothing_is_stored(box: Box, iris: Path) -> None:
    manifest = isvc("typo", iris.as_uri())
    manifest["spec"]["predictor"]["model"]["storageUrl"] = manifest["spec"]["predictor"]["model"].pop("storageUri")
    result = box.kubectl("apply", "-f", "-", stdin=json.dumps(manifest), check=False)
    assert result.returncode != 0
    assert 'unknown field "spec.predictor.model.storageUrl"' in result.stderr
    assert "NotFound" in box.kubectl("get", "isvc", "typo", check=False).stderr


def test_a_value_out_of_range_is_refused_with_its_field(box: Box, iris: Path) -> None:
    manifest = isvc("backwards", iris.as_uri(), minReplicas=3, maxReplicas=1)
    result = box.kubectl("apply", "-f", "-", stdin=json.dumps(manifest), check=False)
    assert result.returncode != 0
    assert "minReplicas" in result.stderr
    assert "NotFound" in box.kubectl("get", "isvc", "backwards", check=False).stderr


def test_a_fixed_manifest_recovers(box: Box, iris: Path) -> None:
    box.client.apply(isvc("fixed", "file:///not/yet"))
    failed(box, "fixed", "ModelLoadFailed")
    box.client.apply(isvc("fixed", iris.as_uri()))
    service = box.client.wait_ready("fixed", timeout_s=60)
    assert "lastFailureInfo" not in service["status"]["modelStatus"]
    assert box.client.predict("fixed", INSTANCES) == {"predictions": [1, 1]}
    box.client.delete("fixed")
