"""Builders of the objects that the workload controllers look at."""

from __future__ import annotations

from typing import Any

import orjson

from controller.api.core import Deployment, Pod, Service
from onebox.workloads.pods import Replica

Object = dict[str, Any]


def deployment(replicas: int | None = 1, *, generation: int = 1, image: str = "i", **spec: Any) -> Deployment:
    return Deployment.parse(deployment_manifest(replicas, generation=generation, image=image, **spec))


def deployment_manifest(
    replicas: int | None = 1,
    *,
    name: str = "web",
    namespace: str = "ns",
    generation: int = 1,
    image: str = "i",
    **spec: Any,
) -> Object:
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": image, "ports": [{"containerPort": 8080, "name": "http"}]}]},
    }
    whole = {"selector": {"matchLabels": {"app": name}}, "template": template, **spec}
    if replicas is not None:
        whole["replicas"] = replicas
    meta = {"name": name, "namespace": namespace, "uid": f"uid-{name}", "generation": generation}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": whole}


def replica(name: str, template: str = "new", *, ready: bool = True, created_s: float = 100.0, **more: Any) -> Replica:
    ready_since_s = more.pop("ready_since_s", 100.0 if ready else None)
    return Replica(
        name=name, uid=f"uid-{name}", template_hash=template, created_s=created_s, ready_since_s=ready_since_s, **more
    )


def pod(name: str = "p", *, ports: dict[int, int] | None = None, ready: bool = True, **meta: Any) -> Pod:
    annotations = (
        {}
        if ports is None
        else {"onebox.ladle.dev/ports": orjson.dumps({str(k): v for k, v in ports.items()}).decode()}
    )
    return Pod.parse(
        {
            "metadata": {
                "name": name,
                "namespace": "ns",
                "uid": f"uid-{name}",
                "labels": {"app": "web"},
                "annotations": annotations,
                **meta,
            },
            "spec": {
                "nodeName": "onebox",
                "containers": [
                    {"name": "c", "ports": [{"containerPort": 8080, "name": "http"}, {"containerPort": 9090}]}
                ],
            },
            "status": {
                "phase": "Running",
                "podIP": "127.0.0.1",
                "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            },
        }
    )


def service(*ports: Object, selector: dict[str, str] | None = None, **spec: Any) -> Service:
    whole = {"selector": {"app": "web"} if selector is None else selector, "ports": list(ports), **spec}
    return Service.parse({"metadata": {"name": "web", "namespace": "ns", "uid": "uid-svc"}, "spec": whole})
