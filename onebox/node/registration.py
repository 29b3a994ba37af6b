"""The node's own object: one machine, Ready, with its processors and memory. Written only when it differs."""

from __future__ import annotations

import platform
from importlib.metadata import version

from controller.base.clock import rfc3339
from controller.base.json import JsonObject
from controller.kube.client import KubeClient
from controller.kube.errors import NotFound
from controller.kube.resources import NODES

NODE_NAME = "onebox"
FIELD_MANAGER = "ladle-node"
PODS_MAX = 1000
"""Pods that this node takes; kubelet's default is 110, for containers. A guess for processes."""


async def register(client: KubeClient, *, cpus: int, memory_bytes: int, now_s: float) -> None:
    """Sees to it that the API has this node, Ready."""
    try:
        live = await client.get(NODES, NODE_NAME)
    except NotFound:
        live = await client.create(NODES, build_node())
    status = build_status(cpus=cpus, memory_bytes=memory_bytes, now=rfc3339(now_s))
    if (live.get("status") or {}).get("capacity") != status["capacity"]:
        await client.patch(
            NODES, NODE_NAME, None, {"status": status}, subresource="status", field_manager=FIELD_MANAGER
        )


def build_node() -> JsonObject:
    labels = {"kubernetes.io/hostname": NODE_NAME, "kubernetes.io/os": "linux", "kubernetes.io/arch": _architecture()}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE_NAME, "labels": labels}}


def build_status(*, cpus: int, memory_bytes: int, now: str) -> JsonObject:
    """Capacity in Kubernetes' quantities, and the one condition that people look at."""
    amounts = {"cpu": str(cpus), "memory": f"{memory_bytes // 1024}Ki", "pods": str(PODS_MAX)}
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "NodeReady",
        "message": "pods run as processes of this machine",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }
    return {
        "capacity": amounts,
        "allocatable": amounts,
        "conditions": [ready],
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": NODE_NAME}],
        "nodeInfo": _node_info(),
    }


def _node_info() -> JsonObject:
    """What Kubernetes requires of a node; the ids stay empty, since a onebox has no use for the machine's."""
    return {
        "operatingSystem": "linux",
        "architecture": _architecture(),
        "kernelVersion": platform.release(),
        "osImage": platform.system(),
        "containerRuntimeVersion": "process://1",
        "kubeletVersion": f"ladle-{version('ladle')}",
        "kubeProxyVersion": "",
        "machineID": "",
        "systemUUID": "",
        "bootID": "",
    }


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
