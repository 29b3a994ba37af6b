"""What a platform team applies on a cluster (manifests/cluster): it is valid, and gives the rights that the controller uses."""

from __future__ import annotations

import asyncio
import os
import random
import re
import shlex
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any
from urllib.request import urlopen

import pytest
import yaml

from controller.__main__ import LEASE_NAME
from controller.base.clock import SystemClock
from controller.base.json import JsonObject
from controller.base.probes import probes_on
from controller.inferenceservice.later_kinds import run_later_kinds
from controller.inferenceservice.run import run
from controller.kube.client import APPLY_PATCH, KubeClient, WatchEvent
from controller.kube.events import EventRecorder
from controller.kube.leader import LeaderElection
from controller.kube.resources import (
    CLUSTER_SERVING_RUNTIMES,
    CONFIG_MAPS,
    DEPLOYMENTS,
    INFERENCE_GRAPHS,
    INFERENCE_SERVICES,
    KNATIVE_SERVICES,
    LEASES,
    NAMESPACES,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    TRAINED_MODELS,
    VIRTUAL_SERVICES,
    ResourceType,
)
from controller.reconcile.controller import collect_controllers
from tests.controller.inferenceservice.builders import ROOT, manifest
from tests.controller.inferenceservice.conftest import NAMESPACE, ServiceBox
from tests.controller.inferenceservice.test_later_kinds import GRAPH, MODEL
from tests.onebox_api import ApiProcess
from tests.waiting import eventually

SYSTEM = "ladle-system"
RBAC = "rbac.authorization.k8s.io"


def objects() -> list[dict[str, Any]]:
    """Everything in manifests/cluster, in the order in which kubectl applies the folder."""
    entries = sorted(files("manifests").joinpath("cluster").iterdir(), key=lambda item: item.name)
    return [item for entry in entries for item in yaml.safe_load_all(entry.read_text()) if item]


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [item for item in objects() if item["kind"] == kind]


@dataclass(frozen=True, order=True)
class Use:
    """A request as RBAC sees it; `namespace` "" is one over all namespaces or about an object without."""

    verb: str
    group: str
    resource: str
    namespace: str
    name: str = ""


@dataclass(frozen=True, order=True)
class Right:
    """One verb on one resource that a role gives; `namespace` and `name` "" are all."""

    verb: str
    group: str
    resource: str
    namespace: str
    name: str = ""

    def covers(self, use: Use) -> bool:
        return (
            (self.verb, self.group, self.resource) == (use.verb, use.group, use.resource)
            and self.namespace in ("", use.namespace)
            and self.name in ("", use.name)
        )


def rights() -> Iterator[Right]:
    """What the roles give, one by one."""
    for role in (*of_kind("ClusterRole"), *of_kind("Role")):
        namespace = role["metadata"].get("namespace", "")
        for rule in role["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        for name in rule.get("resourceNames") or [""]:
                            yield Right(verb, group, resource, namespace, name)


UNSEEN = {
    Right(
        "update", "serving.kserve.io", "inferenceservices/finalizers", ""
    ): "OwnerReferencesPermissionEnforcement asks for it",
}
"""Rights that no request shows, each with who asks for them."""

_PATH = re.compile(
    r"/(?:api/v1|apis/(?P<group>[^/]+)/[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?/(?P<resource>[^/]+)(?:/(?P<name>[^/]+))?(?P<sub>/[^/]+)?"
)
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class RecordingClient(KubeClient):
    """Notes what it asks for, in RBAC's words."""

    uses: set[Use]

    async def _request(self, method: str, path: str, **fields: Any) -> JsonObject:
        found = _PATH.fullmatch(path)
        assert found is not None, path
        query: Mapping[str, str] = fields.get("query") or {}
        name = found["name"] or query.get("fieldSelector", "").removeprefix("metadata.name=")
        verb = _VERBS.get(method) or ("get" if found["name"] else "list")
        if verb == "create":
            name = ""  # A POST names its object in the body, which RBAC does not read.
        self._note(verb, found["group"] or "", found["resource"] + (found["sub"] or ""), found["namespace"] or "", name)
        if fields.get("content_type") == APPLY_PATCH:
            # An apply of what is not there yet is a creation to RBAC, with the name that it has in the path.
            self._note("create", found["group"] or "", found["resource"], found["namespace"] or "", name)
        return await super()._request(method, path, **fields)

    async def watch(  # type: ignore[override]  # The same, as a plain iterator.
        self, resource: ResourceType, namespace: str | None = None, **options: Any
    ) -> AsyncIterator[WatchEvent]:
        name = options.get("field_selector", "").removeprefix("metadata.name=")
        self._note("watch", resource.group, resource.plural, namespace or "", name)
        async for event in super().watch(resource, namespace, **options):
            yield event

    def _note(self, verb: str, group: str, resource: str, namespace: str, name: str) -> None:
        self.uses.add(Use(verb, group, resource, namespace, name))


@asynccontextmanager
async def recorded(box: ServiceBox) -> AsyncIterator[RecordingClient]:
    """The whole of `python -m controller` while the block runs, elected, with its requests noted."""
    clock, rng = SystemClock(), random.Random(1)
    async with RecordingClient.open(box.api.kubeconfig, user_agent="controller") as client:
        assert isinstance(client, RecordingClient)
        client.uses = set()

        async def work() -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(run(client, clock, rng))
                tasks.create_task(run_later_kinds(client, clock, rng))

        election = LeaderElection(client, namespace=SYSTEM, name=LEASE_NAME, identity="test", clock=clock)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(election.lead(work))
            yield client
            task.cancel()


async def live_through_everything(box: ServiceBox, client: KubeClient) -> None:
    """A service with credentials, authorities, a transformer that comes and goes, a stop, KServe's finalizer, events twice."""
    await box.apply(SERVICE_ACCOUNTS, core("ServiceAccount", "sa", secrets=[{"name": "s3"}]))
    await box.apply(SECRETS, core("Secret", "s3", stringData={"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}))
    transformer = {"containers": [{"name": "kserve-container", "image": "example/t:1"}]}
    offered = manifest({"serviceAccountName": "sa"}, transformer=transformer)
    offered["metadata"]["finalizers"] = ["inferenceservice.finalizers"]
    await box.apply(INFERENCE_SERVICES, offered)
    await box.knative_says("iris-transformer")
    await box.knative_says()
    await box.has_condition("Ready", "True")
    await box.appears(CONFIG_MAPS, "global-ca-bundle")
    await box.appears(VIRTUAL_SERVICES, "iris")
    del offered["spec"]["transformer"]
    await box.apply(INFERENCE_SERVICES, offered)
    await box.disappears(KNATIVE_SERVICES, "iris-transformer")
    stop = {"metadata": {"annotations": {"serving.kserve.io/stop": "true"}}}
    await box.client.patch(INFERENCE_SERVICES, "iris", NAMESPACE, stop)
    for resource in (VIRTUAL_SERVICES, SERVICES):
        await box.disappears(resource, "iris")
    await box.client.delete(INFERENCE_SERVICES, "iris", NAMESPACE)
    await box.disappears(INFERENCE_SERVICES, "iris")
    for resource, item in ((INFERENCE_GRAPHS, GRAPH), (TRAINED_MODELS, MODEL)):
        made = {**item, "metadata": {**item["metadata"], "namespace": NAMESPACE}}
        await box.apply(resource, made)
    await box.says("Warning", "NotSupported")
    for _ in range(2):  # The second recorder finds the event of the first, as after a restart.
        recorder = EventRecorder(client, "ladle-controller", SystemClock())
        await recorder.record(core("ConfigMap", "x"), reason="Same", message="again")


def core(kind: str, name: str, namespace: str = NAMESPACE, **content: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}, **content}


async def test_the_roles_give_what_the_controller_asks_for_and_nothing_else(box: ServiceBox) -> None:
    await box.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}})
    await box.apply(CONFIG_MAPS, core("ConfigMap", "authorities", "kserve", data={"cabundle.crt": "PEM"}))
    settings = {"storageInitializer": '{"caBundleConfigMapName": "authorities"}'}
    await box.apply(CONFIG_MAPS, core("ConfigMap", "inferenceservice-config", "kserve", data=settings))
    async with recorded(box) as client:
        await live_through_everything(box, client)

        async def renewed() -> bool:
            return any(use.verb == "update" and use.resource == LEASES.plural for use in client.uses)

        await eventually("the Lease is renewed", renewed)
    given = set(rights())
    missing = [use for use in sorted(client.uses) if not any(right.covers(use) for right in given)]
    unused = [right for right in sorted(given) if not any(right.covers(use) for use in client.uses)]
    assert missing == []
    assert unused == sorted(UNSEEN)


async def test_the_folder_can_be_applied(shared_api: ApiProcess) -> None:
    client = shared_api.client
    for name in ("kserve", "knative-serving"):
        await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    for item in objects():
        group, _, version = item["apiVersion"].rpartition("/")
        namespaced = "namespace" in item["metadata"]
        resource = ResourceType(group, version, f"{item['kind'].lower()}s", item["kind"], namespaced)
        stored = await client.apply(resource, item, field_manager="test")
        assert stored["metadata"]["uid"]


GUIDE = ROOT / "docs/guides/cluster.md"
UNRUN = {
    "kubectl delete validatingwebhookconfigurations": "this API server has no webhooks",
}
"""Commands of the guide that cannot be run here, by their beginnings."""
KUBECTL = shutil.which("kubectl")


def commands() -> list[list[str]]:
    lines = [line for block in re.findall(r"```sh\n(.*?)```", GUIDE.read_text(), re.S) for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.skipif(KUBECTL is None, reason="there is no kubectl on this machine")
async def test_the_commands_of_the_guide_do_what_it_says(api: ApiProcess) -> None:
    knative = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "knative-serving"}}
    await api.client.create(NAMESPACES, knative)
    features = core("ConfigMap", "config-features", "knative-serving", data={})
    await api.client.create(CONFIG_MAPS, features)
    environment = {**os.environ, "KUBECONFIG": str(api.kubeconfig), "HOME": str(api.home.root)}
    unrun = set()
    # What KServe leaves behind is there only once its namespace is, which the guide makes where it is missing.
    for command in sorted(commands(), key=lambda words: "scale" in words):
        excuse = next((beginning for beginning in UNRUN if " ".join(command).startswith(beginning)), None)
        if excuse is not None:
            unrun.add(excuse)
            continue
        if "scale" in command:
            await api.client.create(DEPLOYMENTS, kserves_controller())
        ran = await asyncio.to_thread(
            subprocess.run, command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert ran.returncode == 0, (command, ran.stderr)
    assert unrun == set(UNRUN)
    deployment = await api.client.get(DEPLOYMENTS, "ladle-controller", SYSTEM)
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == "registry.example.com/ladle-controller:1"
    stored = await api.client.get(CONFIG_MAPS, "config-features", "knative-serving")
    assert stored["data"]["kubernetes.podspec-init-containers"] == "enabled"
    assert (await api.client.get(DEPLOYMENTS, "kserve-controller-manager", "kserve"))["spec"]["replicas"] == 0
    assert (await api.client.list(CLUSTER_SERVING_RUNTIMES)).items


def kserves_controller() -> dict[str, Any]:
    labels = {"app": "kserve"}
    pod = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "manager", "image": "kserve/controller:1"}]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "kserve-controller-manager", "namespace": "kserve"},
        "spec": {"selector": {"matchLabels": labels}, "template": pod},
    }


def test_every_binding_leads_from_a_role_to_the_account_that_the_pods_run_as() -> None:
    roles = {(item["kind"], item["metadata"]["name"], item["metadata"].get("namespace")) for item in objects()}
    for binding in (*of_kind("ClusterRoleBinding"), *of_kind("RoleBinding")):
        reference = binding["roleRef"]
        assert reference["apiGroup"] == RBAC
        assert (reference["kind"], reference["name"], binding["metadata"].get("namespace")) in roles
        (subject,) = binding["subjects"]
        assert ("ServiceAccount", subject["name"], subject["namespace"]) in roles
    (deployment,) = of_kind("Deployment")
    assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == "ladle-controller"
    assert len(of_kind("RoleBinding")) == len(of_kind("Role"))


def test_the_pods_keep_to_the_restricted_standard_and_are_probed() -> None:
    (deployment,) = of_kind("Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    (port,) = container["ports"]
    assert container["args"] == [f"--probe-port={port['containerPort']}"]
    for probe in ("livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": port["name"]}
    assert (
        deployment["spec"]["selector"]["matchLabels"].items()
        <= deployment["spec"]["template"]["metadata"]["labels"].items()
    )


async def test_probes_and_metrics_are_answered() -> None:
    async with probes_on(0, [collect_controllers], host="127.0.0.1") as port:

        def read(path: str) -> str:
            with urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return str(answer.read().decode())

        assert await asyncio.to_thread(read, "/healthz") == "ok\n"
        assert await asyncio.to_thread(read, "/metrics") is not None
        with pytest.raises(OSError, match="404"):
            await asyncio.to_thread(read, "/other")
