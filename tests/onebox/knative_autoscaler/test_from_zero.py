"""From no pod to an answer and back, with the real API server, the activator and the autoscaler; the test plays the rest."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import aiohttp

from controller.base.clock import SystemClock
from controller.kube.informer import Informer
from controller.kube.resources import CONFIG_MAPS, DEPLOYMENTS, ENDPOINTS, NAMESPACES, REVISIONS
from onebox.home import Home, OneboxSettings
from onebox.knative.activator.limits import Limits
from onebox.knative.activator.run import ActivatorInformers, start
from onebox.knative.autoscaler.autoscaler import Autoscaler, AutoscalerInformers
from onebox.knative.autoscaler.report import ScaleBoard
from tests.onebox.fake_pod import FakePod, fake_pod
from tests.onebox.knative_autoscaler.conftest import fake_gateway
from tests.onebox.knative_world import background
from tests.onebox_api import ApiProcess, open_api
from tests.ports import free_port
from tests.waiting import eventually

HEADERS = {"Knative-Serving-Revision": "r-1", "Knative-Serving-Namespace": "default"}
CONTAINER = {"name": "user-container", "image": "ladle/any:1"}


def revision() -> dict[str, Any]:
    return {
        "apiVersion": REVISIONS.api_version,
        "kind": "Revision",
        "metadata": {
            "name": "r-1",
            "namespace": "default",
            "annotations": {"autoscaling.knative.dev/window": "6s"},
            "labels": {"serving.knative.dev/routingState": "active"},
        },
        "spec": {"containers": [CONTAINER], "timeoutSeconds": 60, "containerConcurrency": 2},
    }


def deployment() -> dict[str, Any]:
    labels = {"serving.knative.dev/revision": "r-1"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "r-1-deployment", "namespace": "default", "labels": labels},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [CONTAINER]}},
        },
    }


def endpoints(name: str, *pods: FakePod, port: int = 0) -> dict[str, Any]:
    subsets: list[dict[str, Any]] = [
        {
            "addresses": [{"ip": "127.0.0.1", "targetRef": {"kind": "Pod", "name": pod.name}}],
            "ports": [{"name": "http", "port": pod.ports.data}, {"name": "http-autometric", "port": pod.ports.stats}],
        }
        for pod in pods
    ]
    if port:
        subsets.append({"addresses": [{"ip": "127.0.0.1"}], "ports": [{"name": "http", "port": port}]})
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": name, "namespace": "default"},
        "subsets": subsets,
    }


async def replicas(api: ApiProcess) -> int:
    found = await api.client.get(DEPLOYMENTS, "r-1-deployment", "default")
    count: int = found["spec"]["replicas"]
    return count


async def until_replicas(api: ApiProcess, count: int) -> None:
    async def there() -> bool:
        return await replicas(api) == count

    await eventually(f"{count} replicas", there)


async def ask(port: int) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://127.0.0.1:{port}", data=b"x", headers=HEADERS) as answer,
    ):
        return answer.status, await answer.text()


async def install(api: ApiProcess) -> None:
    for name in ("default", "knative-serving"):
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await api.client.apply(NAMESPACES, namespace, field_manager="test")
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "config-autoscaler", "namespace": "knative-serving"},
        "data": {"target-burst-capacity": "0", "scale-to-zero-grace-period": "1s"},
    }
    await api.client.apply(CONFIG_MAPS, config, field_manager="test")
    await api.client.create(REVISIONS, revision())
    await api.client.create(DEPLOYMENTS, deployment())


async def test_a_request_wakes_a_revision_and_its_silence_ends_it(tmp_path: Path) -> None:
    clock, rng, board = SystemClock(), random.Random(1), ScaleBoard()
    async with fake_gateway(Home(tmp_path / "home")) as gateway:
        settings = OneboxSettings(api_port=free_port(), activator_port=free_port())
        async with open_api(tmp_path / "home", settings) as api, background() as group:
            await install(api)
            informers = {
                resource: Informer(api.client, resource, clock=clock, rng=rng)
                for resource in (REVISIONS, DEPLOYMENTS, ENDPOINTS, CONFIG_MAPS)
            }
            for informer in informers.values():
                group.create_task(informer.run())
            seen = AutoscalerInformers(
                revisions=informers[REVISIONS],
                deployments=informers[DEPLOYMENTS],
                endpoints=informers[ENDPOINTS],
                config_maps=informers[CONFIG_MAPS],
            )
            autoscaler = Autoscaler(api.client, seen, board=board, home=api.home, clock=clock, rng=rng)
            group.create_task(autoscaler.run())
            activator = await start(
                api.home,
                group,
                ActivatorInformers(revisions=informers[REVISIONS], endpoints=informers[ENDPOINTS]),
                limits=Limits(),
                clock=clock,
                rng=rng,
            )
            asking = group.create_task(ask(activator.port))
            await until_replicas(api, 1)
            async with fake_pod() as pod:
                private = endpoints("r-1-private", pod)
                await api.client.apply(ENDPOINTS, private, field_manager="test")
                assert await asking == (200, "pod-1: 1 bytes")
                await api.client.apply(ENDPOINTS, endpoints("r-1", pod), field_manager="test")

                async def inactive() -> bool:
                    report = board.of("default", "r-1")
                    return report is not None and report.want == 0

                await eventually("the revision is inactive", inactive)
                assert await replicas(api) == 1
                gateway.hosts = {"outbound|80||r-1.default.svc.cluster.local": [activator.port]}
                public = endpoints("r-1", port=activator.port)
                await api.client.apply(ENDPOINTS, public, field_manager="test")
                await until_replicas(api, 0)
            owners = {
                entry["manager"]
                for entry in (await api.client.get(DEPLOYMENTS, "r-1-deployment", "default"))["metadata"][
                    "managedFields"
                ]
                if "f:replicas" in entry["fieldsV1"].get("f:spec", {})
            }
            assert owners == {"autoscaler"}
            await activator.server.drain()
            activator.pool.close()
