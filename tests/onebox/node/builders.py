"""Pods and containers as JSON, with just what a test is about."""

from __future__ import annotations

import json
import sys
from typing import Any

from controller.base.json import JsonObject
from onebox.node.spec import Pod, parse_pod


def container(name: str = "main", **fields: Any) -> JsonObject:
    return {"name": name, "image": "example.com/app:1", "command": ["true"], **fields}


def pod_json(*containers: JsonObject, name: str = "pod", namespace: str = "default", **spec: Any) -> JsonObject:
    """A pod that is bound to the node; it gets the uid `uid-<name>` unless an API server gives it one."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}"},
        "spec": {
            "nodeName": "onebox",
            "terminationGracePeriodSeconds": 5,
            "containers": list(containers or (container(),)),
            **spec,
        },
    }


def pod(*containers: JsonObject, deletion_grace_s: int | None = None, **spec: Any) -> Pod:
    value = pod_json(*containers, **spec)
    if deletion_grace_s is not None:
        value["metadata"] |= {
            "deletionTimestamp": "2026-11-21T08:00:00Z",
            "deletionGracePeriodSeconds": deletion_grace_s,
        }
    return parse_pod(value)


def python(code: str, name: str = "main", **fields: Any) -> JsonObject:
    """A container that runs this Python program."""
    return container(name, **{"command": [sys.executable, "-c", code], **fields})


SERVER = """
import http.server, os, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ready = not os.path.exists("unready") or self.path != "/ready"
        self.send_response(200 if ready else 503)
        self.end_headers()
        self.wfile.write(os.environ["POD_NAME"].encode())
    def log_message(self, *words): pass
signal.signal(signal.SIGTERM, lambda *_: (print("terminated", flush=True), sys.exit(0)))
print("serving", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
"""An HTTP server on $PORT. It is not ready at /ready while its directory holds a file named `unready`."""

READY: dict[str, Any] = {"readinessProbe": {"httpGet": {"port": 8080, "path": "/ready"}, "periodSeconds": 1}}
HTTP: dict[str, Any] = {"ports": [{"containerPort": 8080, "name": "http"}]}


def server(name: str = "main", **fields: Any) -> JsonObject:
    return python(SERVER, name, **{**HTTP, **READY, **fields})


def knative_containers(**runtime: Any) -> tuple[JsonObject, JsonObject]:
    """What Knative makes of a KServe predictor: the runtime and the queue-proxy."""
    user = {
        "name": "kserve-container",
        "image": "kserve/sklearnserver:v0.15",
        "args": ["--model_name=iris", "--model_dir=/mnt/models"],
        "ports": [{"containerPort": 8080, "name": "user-port"}],
        "env": [{"name": "PORT", "value": "8080"}],
        "lifecycle": {"preStop": {"httpGet": {"path": "/wait-for-drain", "port": 8022}}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **runtime,
    }
    proxy = {
        "name": "queue-proxy",
        "image": "ladle.dev/queue:1",
        "ports": [{"containerPort": number} for number in (9090, 9091, 8012, 8112)],
        "env": [
            {"name": "CONTAINER_CONCURRENCY", "value": "4"},
            {"name": "SERVING_POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "USER_PORT", "value": "8080"},
            {"name": "SERVING_READINESS_PROBE", "value": '{"tcpSocket":{"port":8080,"host":"127.0.0.1"}}'},
        ],
        "readinessProbe": {
            "httpGet": {"port": 8012, "path": "/", "httpHeaders": [{"name": "K-Network-Probe", "value": "queue"}]}
        },
    }
    return user, proxy


def agent(*args: str, port: int = 8080, **fields: Any) -> JsonObject:
    """KServe's agent as the InferenceService controller writes it and Knative completes it."""
    probe = {"name": "SERVING_READINESS_PROBE", "value": json.dumps({"httpGet": {"path": "/ready", "port": port}})}
    return {
        "name": "agent",
        "image": "kserve/agent:latest",
        "args": [*args, "--component-port", str(port)],
        "ports": [{"containerPort": 9081, "name": "user-port"}],
        "env": [probe, {"name": "PORT", "value": "9081"}],
        **fields,
    }
