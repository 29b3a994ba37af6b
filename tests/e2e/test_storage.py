"""Models from a bucket, with the credentials of a service: docs/guides/storage.md as it stands, on onebox and moto's S3."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.box import ROOT, Box, kubectl_missing
from tests.e2e.buckets import KEY, SECRET, s3_bucket
from tests.e2e.manifests import isvc
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def endpoint(iris: Path) -> Iterator[str]:
    """An S3 with the iris model, and with a neighbour whose name begins like it."""
    model = (iris / "model.joblib").read_bytes()
    with s3_bucket("models", {"iris/model.joblib": model, "iris2/other.joblib": b"not a model"}) as url:
        yield url


def commands() -> str:
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs/guides/storage.md").read_text(), re.MULTILINE | re.DOTALL)
    return "set -e\n" + "".join(blocks)


def test_every_command_of_the_guide_works(box: Box, endpoint: str) -> None:
    if reason := kubectl_missing():
        pytest.skip(reason)
    environment = {
        **os.environ,
        "ENDPOINT": endpoint,
        "KEY": KEY,
        "SECRET": SECRET,
        "KUBECONFIG": str(box.home.kubeconfig),
        "LADLE_HOME": str(box.home.root),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    result = subprocess.run(
        ["bash", "-c", commands()], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count('{"predictions":[1,1]}') == 2
    children = box.kubectl("get", "ksvc,revision,deployment,pod", "-o", "json").stdout
    assert SECRET not in children
    assert '"secretKeyRef"' in children
    logs = [path.read_bytes() for path in box.home.root.rglob("*.log")]
    assert logs
    assert not any(SECRET.encode() in text for text in logs)


def test_a_bucket_that_is_not_there_is_said_in_the_status(box: Box, endpoint: str) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "where", "namespace": "default"},
        "stringData": {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "S3_ENDPOINT": endpoint},
    }
    annotations = {"serving.kserve.io/storageSecretName": "where"}
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "other-reader", "namespace": "default"},
    }
    manifest = isvc("no-bucket", "s3://nowhere/iris", annotations=annotations, serviceAccountName="other-reader")
    # The service first: it says what is missing, and goes on when it comes.
    box.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    wait_for("the missing account is said", lambda: "ServiceAccountNotFound" in said(box), timeout_s=60)
    for item in (account, secret):
        box.kubectl("apply", "-f", "-", stdin=json.dumps(item))
    expected = f"s3://nowhere/iris: the bucket nowhere does not exist on {endpoint}"
    wait_for("the missing bucket is said", lambda: expected in said(box), timeout_s=90)


def said(box: Box) -> str:
    """Reason and message of what keeps the predictor from being ready."""
    conditions = box.get("isvc", "no-bucket").get("status", {}).get("conditions", [])
    return " ".join(
        f"{item.get('reason')} {item.get('message')}" for item in conditions if item["type"] == "PredictorReady"
    )
