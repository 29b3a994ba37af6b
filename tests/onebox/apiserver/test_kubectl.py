"""kubectl against the API server: what people type, and what they see."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from controller.kube.resources import EVENTS, INFERENCE_SERVICES, PODS
from tests.onebox_api import ApiProcess, open_api

KUBECTL = shutil.which("kubectl")
pytestmark = pytest.mark.skipif(KUBECTL is None, reason="there is no kubectl on this machine")

ISVC = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: iris
spec:
  predictor:
    model:
      modelFormat: {name: sklearn}
      storageUri: file:///model
"""
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: one, image: "image:1"}
      - {name: two, image: "image:2", env: [{name: A, value: "1"}]}
"""


@dataclass
class Kubectl:
    """Runs kubectl as a person would, with a cache of its own."""

    api: ApiProcess
    directory: Path

    async def __call__(self, *arguments: str, stdin: str = "", code: int = 0) -> str:
        process = await self.start(*arguments)
        output, _ = await process.communicate(stdin.encode())
        text = output.decode()
        assert process.returncode == code, text
        return text

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        assert KUBECTL is not None
        environment = {**os.environ, "KUBECONFIG": str(self.api.kubeconfig), "HOME": str(self.directory)}
        return await asyncio.create_subprocess_exec(
            KUBECTL,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
        )


@pytest.fixture
async def kubectl(tmp_path: Path) -> AsyncIterator[Kubectl]:
    async with open_api(tmp_path / "home") as api:
        yield Kubectl(api, tmp_path)


async def test_apply_creates_changes_and_leaves_alone(kubectl: Kubectl) -> None:
    assert "created" in await kubectl("apply", "-f", "-", stdin=ISVC)
    assert "unchanged" in await kubectl("apply", "-f", "-", stdin=ISVC)
    changed = ISVC.replace("file:///model", "file:///other")
    assert "-      storageUri: file:///model" in await kubectl("diff", "-f", "-", stdin=changed, code=1)
    assert "configured" in await kubectl("apply", "-f", "-", stdin=changed)
    uri = await kubectl("get", "isvc", "iris", "-o", "jsonpath={.spec.predictor.model.storageUri}")
    assert uri == "file:///other"


async def test_apply_of_a_deployment_merges_containers_by_name(kubectl: Kubectl) -> None:
    await kubectl("apply", "-f", "-", stdin=DEPLOYMENT)
    await kubectl("set", "image", "deployment/web", "one=image:9")
    await kubectl("apply", "-f", "-", stdin=DEPLOYMENT.replace(', env: [{name: A, value: "1"}]', ""))
    images = await kubectl("get", "deployment", "web", "-o", "jsonpath={..image}")
    assert images == "image:1 image:2"
    assert await kubectl("get", "deployment", "web", "-o", "jsonpath={..env}") == ""


async def test_server_side_apply_reports_conflicts_and_force_takes_over(kubectl: Kubectl) -> None:
    await kubectl("apply", "--server-side", "--field-manager=one", "-f", "-", stdin=DEPLOYMENT)
    other = DEPLOYMENT.replace("image:1", "image:3")
    refused = await kubectl("apply", "--server-side", "--field-manager=two", "-f", "-", stdin=other, code=1)
    assert 'conflict with "one"' in refused
    assert '.spec.template.spec.containers[name="one"].image' in refused
    await kubectl("apply", "--server-side", "--field-manager=two", "--force-conflicts", "-f", "-", stdin=other)
    assert "image:3" in await kubectl("get", "deployment", "web", "-o", "jsonpath={..image}")


async def test_server_side_apply_takes_over_what_client_side_apply_wrote(kubectl: Kubectl) -> None:
    await kubectl("apply", "-f", "-", stdin=DEPLOYMENT)
    shrunk = DEPLOYMENT.replace(', env: [{name: A, value: "1"}]', "")
    await kubectl("apply", "--server-side", "-f", "-", stdin=shrunk)
    assert await kubectl("get", "deployment", "web", "-o", "jsonpath={..env}") == ""


async def test_a_wrong_field_is_refused_with_its_path(kubectl: Kubectl) -> None:
    refused = await kubectl("apply", "-f", "-", stdin=ISVC.replace("storageUri:", "storageURI:"), code=1)
    assert 'unknown field "spec.predictor.model.storageURI"' in refused
    refused = await kubectl(
        "apply", "-f", "-", stdin=ISVC.replace("predictor:", "predictor:\n    minReplicas: two"), code=1
    )
    assert "spec.predictor.minReplicas" in refused
    assert "NotFound" in await kubectl("get", "isvc", "iris", code=1)


async def test_tables_show_the_columns_of_kserve_and_of_kubernetes(kubectl: Kubectl) -> None:
    await kubectl("apply", "-f", "-", stdin=ISVC)
    await kubectl("apply", "-f", "-", stdin=DEPLOYMENT)
    head, line = (await kubectl("get", "isvc")).splitlines()
    assert head.split() == [
        "NAME", "URL", "READY", "PREV", "LATEST", "PREVROLLEDOUTREVISION", "LATESTREADYREVISION", "AGE",
    ]  # fmt: skip
    assert line.startswith("iris")
    head, line = (await kubectl("get", "deployments", "-o", "wide")).splitlines()
    assert head.split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"]
    assert line.split()[1:4] == ["0/1", "0", "0"]
    assert "deployment.apps/web" in await kubectl("get", "all")


async def test_describe_shows_events(kubectl: Kubectl) -> None:
    await kubectl("apply", "-f", "-", stdin=ISVC)
    stored = await kubectl.api.client.get(INFERENCE_SERVICES, "iris", "default")
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "iris.1", "namespace": "default"},
        "involvedObject": {
            "apiVersion": stored["apiVersion"],
            "kind": "InferenceService",
            "name": "iris",
            "namespace": "default",
            "uid": stored["metadata"]["uid"],
        },
        "reason": "InferenceServiceReady",
        "message": "it is ready",
        "type": "Normal",
        "source": {"component": "test"},
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z",
        "count": 1,
    }
    await kubectl.api.client.create(EVENTS, event)
    assert "it is ready" in await kubectl("describe", "isvc", "iris")
    assert "InferenceServiceReady" in await kubectl("events", "--for", "inferenceservice/iris")
    listed = await kubectl("get", "events")
    assert listed.splitlines()[0].split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert "inferenceservice/iris" in listed


async def test_explain_and_api_resources_know_custom_kinds(kubectl: Kubectl) -> None:
    assert "storageUri" in await kubectl("explain", "isvc.spec.predictor.model")
    assert "maxSurge" in await kubectl("explain", "deployment.spec.strategy.rollingUpdate")
    listed = await kubectl("api-resources", "--api-group=serving.kserve.io")
    assert "inferenceservices" in listed
    assert "isvc" in listed


async def test_patch_label_annotate_and_scale(kubectl: Kubectl) -> None:
    await kubectl("apply", "-f", "-", stdin=DEPLOYMENT)
    await kubectl("label", "deployment", "web", "tier=front")
    await kubectl("annotate", "deployment", "web", "note=hello")
    strategic = '{"spec":{"template":{"spec":{"containers":[{"name":"two","image":"patched"}]}}}}'
    await kubectl("patch", "deployment", "web", "-p", strategic)
    await kubectl(
        "patch", "deployment", "web", "--type=json", "-p", '[{"op":"add","path":"/spec/paused","value":true}]'
    )
    await kubectl("scale", "deployment", "web", "--replicas=3")
    shown = await kubectl(
        *("get", "deployments", "-l", "tier=front", "-o"),
        "jsonpath={.items[0].metadata.annotations.note} {.items[0].spec.replicas} {.items[0].spec.paused} {..image}",
    )
    assert shown == "hello 3 true image:1 patched"


async def test_create_works_for_kinds_that_kubectl_sends_as_protobuf(kubectl: Kubectl) -> None:
    await kubectl("create", "namespace", "shop")
    await kubectl("create", "configmap", "-n", "shop", "settings", "--from-literal=a=b")
    await kubectl("create", "secret", "generic", "-n", "shop", "keys", "--from-literal=a=b")
    await kubectl("create", "deployment", "-n", "shop", "web", "--image=web:1", "--replicas=0", "--port=80")
    await kubectl("create", "service", "clusterip", "-n", "shop", "web", "--tcp=80:8080")
    assert await kubectl("get", "secret", "-n", "shop", "keys", "-o", "jsonpath={.data.a}") == "Yg=="
    assert await kubectl("get", "cm", "-n", "shop", "settings", "-o", "jsonpath={.data.a}") == "b"
    assert await kubectl("get", "service", "-n", "shop", "web", "-o", "jsonpath={.spec.ports[0].targetPort}") == "8080"
    query = "jsonpath={.spec.replicas} {..containerPort} {.spec.progressDeadlineSeconds}"
    assert await kubectl("get", "deployment", "-n", "shop", "web", "-o", query) == "0 80 600"
    assert "yes" in await kubectl("auth", "can-i", "delete", "pods")
    assert "admin" in await kubectl("auth", "whoami")


async def test_wait_and_watch_end_when_something_happens(kubectl: Kubectl) -> None:
    await kubectl("apply", "-f", "-", stdin=ISVC)
    waiting = await kubectl.start("wait", "isvc/iris", "--for=condition=Ready", "--timeout=60s")
    watching = await kubectl.start("get", "isvc", "iris", "-w", "--no-headers")
    assert watching.stdout is not None
    assert (await watching.stdout.readline()).startswith(b"iris")
    status = {"status": {"url": "http://iris", "conditions": [{"type": "Ready", "status": "True"}]}}
    await kubectl.api.client.patch(INFERENCE_SERVICES, "iris", "default", status, subresource="status")
    assert b"True" in await watching.stdout.readline()
    watching.terminate()
    await watching.wait()
    output, _ = await waiting.communicate()
    assert b"condition met" in output
    assert "deleted" in await kubectl("delete", "isvc", "iris")


async def test_logs_are_read_by_container_and_by_lines(kubectl: Kubectl) -> None:
    containers = [{"name": "one", "image": "i"}, {"name": "two", "image": "i"}]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"nodeName": "onebox", "containers": containers},
    }
    stored = await kubectl.api.client.create(PODS, pod)
    directory = kubectl.api.home.pod_logs / f"default_p_{stored['metadata']['uid']}" / "one"
    directory.mkdir(parents=True)
    (directory / "0.log").write_text("first\nlife\n")
    (directory / "1.log").write_text("a\nb\nc\n")
    assert await kubectl("logs", "p", "-c", "one") == "a\nb\nc\n"
    assert await kubectl("logs", "p", "-c", "one", "--tail=2") == "b\nc\n"
    assert await kubectl("logs", "p", "-c", "one", "--previous") == "first\nlife\n"
    assert "Defaulted container" in await kubectl("logs", "p")
    assert "container zz is not valid for pod p" in await kubectl("logs", "p", "-c", "zz", code=1)
    assert "is waiting to start" in await kubectl("logs", "p", "-c", "two", code=1)
    following = await kubectl.start("logs", "-f", "p", "-c", "one", "--tail=1")
    assert following.stdout is not None
    assert await following.stdout.readline() == b"c\n"
    with (directory / "1.log").open("a") as log:
        log.write("d\n")
    assert await following.stdout.readline() == b"d\n"
    await kubectl.api.client.delete(PODS, "p", "default", grace_period_s=0)
    assert await following.stdout.read() == b""
    assert await following.wait() == 0
