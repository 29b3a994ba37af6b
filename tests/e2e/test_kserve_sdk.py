"""kserve's own SDK, unchanged and in an environment of its own, drives a onebox as it drives a cluster."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier

from tests.e2e.box import Box
from tests.e2e.buckets import KEY, SECRET, s3_bucket
from tests.runtimes.processes import KSERVE_PYTHON, needs_kserve

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(360), needs_kserve]

SCRIPT = Path(__file__).with_name("kserve_sdk_script.py")


@pytest.fixture(scope="module")
def endpoint(iris: Path) -> Iterator[str]:
    """An S3 with the iris model."""
    with s3_bucket("models", {"iris/model.joblib": (iris / "model.joblib").read_bytes()}) as url:
        yield url


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Files for S3 and GCS. The SDK puts S3's values into `data` as they are, so they have to be base64 in the file."""
    folder = tmp_path_factory.mktemp("credentials")
    encoded = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
    lines = [f"{name} = {base64.b64encode(value.encode()).decode()}" for name, value in encoded.items()]
    (folder / "aws").write_text("\n".join(["[default]", *lines]))
    (folder / "gcs.json").write_text('{"type": "service_account"}')
    return folder / "aws", folder / "gcs.json"


@pytest.fixture(scope="module")
def said(
    box: Box, iris: Path, endpoint: str, credentials: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What the script was told."""
    other = tmp_path_factory.mktemp("models") / "always-2"
    other.mkdir()
    features, labels = load_iris(return_X_y=True)
    joblib.dump(DummyClassifier(strategy="constant", constant=2).fit(features, labels), other / "model.joblib")
    gateway = box.gateway.partition("://")[2]
    command = [KSERVE_PYTHON, str(SCRIPT), str(box.home.kubeconfig), gateway, iris.as_uri(), other.as_uri(), endpoint]
    ended = subprocess.run([*command, *map(str, credentials)], capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    told: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return told


def test_a_service_is_created_changed_and_asked(said: dict[str, Any]) -> None:
    assert said["created"] == ["sdk", 1]
    assert said["ready"] is True
    assert "sdk" in said["listed"]
    assert said["first"] == {"predictions": [1, 1]}
    assert said["canary"] == [[20, True], [80, False]]
    assert said["ready after the watch"] is True, said["status after the watch"]
    assert said["second"] == {"predictions": [2, 2]}


def test_it_is_deleted(said: dict[str, Any]) -> None:
    assert said["deleted"] == "Success"
    assert "(404)" in said["after"]
    assert '"reason":"NotFound"' in said["after"].replace(" ", "")


def test_refusals_reach_the_sdk_with_their_reason(said: dict[str, Any]) -> None:
    assert "(409)" in said["stale"]
    assert "Conflict" in said["stale"]
    assert "(409)" in said["created twice"]
    assert "AlreadyExists" in said["created twice"]
    assert "canaryTrafficPercent" in said["invalid"]
    assert "120" in said["invalid"]


def test_credentials_become_secrets_of_one_account_and_fetch_a_model(said: dict[str, Any]) -> None:
    assert said["secrets"] == [["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], ["gcloud-application-credentials.json"]]
    assert all(name.startswith("kserve-secret-") for name in said["names"])
    assert len(set(said["names"])) == 2
    assert said["from the bucket"] == {"predictions": [1, 1]}
