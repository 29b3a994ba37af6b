"""A small synchronous client for people and scripts: apply manifests, wait until they serve, send predictions.

It talks to any Kubernetes API server through a kubeconfig, with the standard library only, so that it comes with the bare
package. Controllers use another one, made for watching thousands of objects.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ladle.sdk.kubeconfig import Cluster, load_kubeconfig

FIELD_MANAGER = "ladle"
REQUEST_TIMEOUT_S = 30.0
"""Deadline of one API request; Kubernetes' own default for kubectl is none, which hangs for ever on a dead server."""
_POLL_INTERVAL_S = 0.05
"""How often `wait_ready` asks: a Ready that comes after half a second should be seen after half a second."""

ISVC_PATH = "/apis/serving.kserve.io/v1beta1/namespaces/{namespace}/inferenceservices"
_PLURALS: Mapping[str, str] = {
    "InferenceService": "inferenceservices",
    "Service": "services",
    "ConfigMap": "configmaps",
    "Secret": "secrets",
}


class ApiError(Exception):
    """The API server refused: `status` is its HTTP code, the message its own words. Status 0: it could not be reached."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NotReady(Exception):
    """An InferenceService did not become ready in time; the message says which conditions are why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered: HTTP status, content type, body."""

    status: int
    content_type: str
    body: bytes


class Client:
    """Applies InferenceServices, waits for them and asks them, on onebox or on a cluster."""

    def __init__(self, kubeconfig: str | Path | None = None) -> None:
        self._cluster = load_kubeconfig(Path(kubeconfig) if kubeconfig else None)

    @property
    def namespace(self) -> str:
        """The namespace of the kubeconfig's current context."""
        return self._cluster.namespace

    def apply(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """The stored object after a server-side apply of `manifest`; ApiError where the server refuses it."""
        namespace = manifest["metadata"].get("namespace", self.namespace)
        group = "/apis/" if "/" in manifest["apiVersion"] else "/api/"
        plural = _PLURALS.get(manifest["kind"], manifest["kind"].lower() + "s")
        path = f"{group}{manifest['apiVersion']}/namespaces/{namespace}/{plural}/{manifest['metadata']['name']}"
        query = urllib.parse.urlencode({"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict", "force": "true"})
        return self.request("PATCH", f"{path}?{query}", manifest, content_type="application/apply-patch+yaml")

    def get(self, name: str, namespace: str | None = None) -> dict[str, Any]:
        """The InferenceService `name`."""
        return self.request("GET", f"{ISVC_PATH.format(namespace=namespace or self.namespace)}/{name}")

    def list(self, namespace: str | None = None) -> list[dict[str, Any]]:
        """All InferenceServices of a namespace."""
        items: list[dict[str, Any]] = self.request("GET", ISVC_PATH.format(namespace=namespace or self.namespace))[
            "items"
        ]
        return items

    def delete(self, name: str, namespace: str | None = None) -> None:
        """Deletes the InferenceService `name` and, through the garbage collector, all that was made from it."""
        self.request("DELETE", f"{ISVC_PATH.format(namespace=namespace or self.namespace)}/{name}")

    def wait_ready(self, name: str, namespace: str | None = None, *, timeout_s: float = 120.0) -> dict[str, Any]:
        """The InferenceService once it is Ready for its newest spec; NotReady with the reasons after `timeout_s` seconds."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            service = self.get(name, namespace)
            if is_ready(service):
                return service
            if time.monotonic() > deadline_s:
                raise NotReady(
                    f"{name} is not ready after {timeout_s:.0f} s: {'; '.join(reasons(service)) or 'no status yet'}"
                )
            time.sleep(_POLL_INTERVAL_S)

    def predict(self, name: str, payload: object, namespace: str | None = None) -> Any:
        """The model's parsed answer to `payload`: `{"instances": …}` goes to V1, `{"inputs": …}` to V2."""
        path = predict_path(name, payload)
        answer = self.send(self.get(name, namespace), path, json.dumps(payload).encode())
        if answer.status != http.client.OK:
            raise ApiError(answer.status, answer.body.decode(errors="replace").strip())
        return json.loads(answer.body)

    def send(self, service: Mapping[str, Any], path: str, body: bytes, *, timeout_s: float = 300.0) -> Answer:
        """The raw answer of an InferenceService to a POST; the default deadline is Knative's for a request."""
        url = service.get("status", {}).get("url")
        if not url:
            raise NotReady(
                f"{service['metadata']['name']} has no URL yet: {'; '.join(reasons(service)) or 'no status yet'}"
            )
        return post(url, path, body, timeout_s=timeout_s)

    def request(
        self, method: str, path: str, body: object = None, *, content_type: str = "application/json"
    ) -> dict[str, Any]:
        """The parsed answer of the API server; ApiError with its message where it is an error."""
        status, content = self._exchange(
            method, path, None if body is None else json.dumps(body).encode(), content_type
        )
        parsed: dict[str, Any] = json.loads(content) if content else {}
        if status >= http.client.BAD_REQUEST:
            raise ApiError(status, parsed.get("message") or f"HTTP {status}")
        return parsed

    def stream(self, path: str) -> Iterable[bytes]:
        """The body of a GET as it comes, for logs that are followed."""
        with contextlib.closing(_connect(self._cluster, timeout_s=None)) as connection:
            connection.request("GET", path, headers=self._headers("application/json"))
            response = connection.getresponse()
            if response.status >= http.client.BAD_REQUEST:
                raise ApiError(response.status, json.loads(response.read()).get("message", ""))
            while chunk := response.read1():
                yield chunk

    def _exchange(self, method: str, path: str, body: bytes | None, content_type: str) -> tuple[int, bytes]:
        connection = _connect(self._cluster, timeout_s=REQUEST_TIMEOUT_S)
        try:
            connection.request(method, path, body, self._headers(content_type))
            response = connection.getresponse()
            return response.status, response.read()
        except OSError as error:
            raise ApiError(
                0, f"{self._cluster.server} does not answer ({error}); is it up? `ladle status` tells"
            ) from error
        finally:
            connection.close()

    def _headers(self, content_type: str) -> dict[str, str]:
        headers = {"Content-Type": content_type, "Accept": "application/json", "User-Agent": "ladle"}
        if self._cluster.token:
            headers["Authorization"] = f"Bearer {self._cluster.token}"
        return headers


def _connect(cluster: Cluster, *, timeout_s: float | None) -> http.client.HTTPConnection:
    address = urllib.parse.urlsplit(cluster.server)
    if cluster.tls is None:
        return http.client.HTTPConnection(address.hostname or "", address.port, timeout=timeout_s)
    return http.client.HTTPSConnection(address.hostname or "", address.port, timeout=timeout_s, context=cluster.tls)


def post(url: str, path: str, body: bytes, *, timeout_s: float) -> Answer:
    """The answer to a POST of JSON to a service's URL. Names below `localhost` go to this machine, whatever DNS says."""
    address = urllib.parse.urlsplit(url)
    host = address.hostname or ""
    local = host == "localhost" or host.endswith(".localhost")
    connect: Callable[..., http.client.HTTPConnection]
    connect = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    connection = connect("127.0.0.1" if local else host, address.port, timeout=timeout_s)
    try:
        headers = {"Host": address.netloc, "Content-Type": "application/json"}
        connection.request("POST", address.path.rstrip("/") + path, body, headers)
        response = connection.getresponse()
        return Answer(response.status, response.getheader("Content-Type", ""), response.read())
    finally:
        connection.close()


def predict_path(name: str, payload: object) -> str:
    """Where a payload goes: `inputs` is the Open Inference Protocol's (V2), everything else V1's `:predict`."""
    if isinstance(payload, Mapping) and "inputs" in payload:
        return f"/v2/models/{name}/infer"
    return f"/v1/models/{name}:predict"


def is_ready(service: Mapping[str, Any]) -> bool:
    """Whether the newest spec of an InferenceService is Ready and has a URL."""
    status = service.get("status", {})
    current = status.get("observedGeneration", 0) == service["metadata"].get("generation", 0)
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))
    return current and ready and bool(status.get("url"))


def reasons(service: Mapping[str, Any]) -> list[str]:
    """Why an InferenceService is not ready, one line for each condition that is not True and says why."""
    status = service.get("status", {})
    failure = status.get("modelStatus", {}).get("lastFailureInfo", {}).get("message")
    lines = [
        f"{c['type']} is {c['status']}: {c.get('message') or c['reason']}"
        for c in status.get("conditions", ())
        if c["status"] != "True" and not c.get("severity") and (c.get("message") or c.get("reason"))
    ]
    return [*([failure] if failure else []), *dict.fromkeys(lines)]
