"""Knative objects of one box: manifests as the fixtures need them, and what becomes of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ladle.sdk.client import ApiError
from tests.e2e.box import ROOT, Box
from tests.waiting import wait_for

Manifest = dict[str, Any]

READY_S = 90
"""A Service with one pod, on a machine that is busy with other tests."""
SHORT_WINDOW = {"autoscaling.knative.dev/window": "6s"}
"""The shortest stable window that Knative allows; its panic window is one second."""

_PATHS = {
    "service": "/apis/serving.knative.dev/v1/namespaces/default/services",
    "configuration": "/apis/serving.knative.dev/v1/namespaces/default/configurations",
    "route": "/apis/serving.knative.dev/v1/namespaces/default/routes",
    "revision": "/apis/serving.knative.dev/v1/namespaces/default/revisions",
    "podautoscaler": "/apis/autoscaling.internal.knative.dev/v1alpha1/namespaces/default/podautoscalers",
    "deployment": "/apis/apps/v1/namespaces/default/deployments",
    "endpoints": "/api/v1/namespaces/default/endpoints",
    "pod": "/api/v1/namespaces/default/pods",
    "config": "/api/v1/namespaces/knative-serving/configmaps",
}


def container(program: str, *arguments: str, image: str = "example.com/noodles:1", **fields: Any) -> Manifest:
    """A container that runs one of the test servers; `env` is a mapping here."""
    variables = {"PYTHONPATH": str(ROOT), **fields.pop("env", {})}
    return {
        "image": image,
        "command": command(program, *arguments),
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        **fields,
    }


def command(program: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"tests.e2e.servers.{program}", *arguments]


def template(
    runs: Manifest, *, revision: str = "", annotations: Mapping[str, str] | None = None, **spec: Any
) -> Manifest:
    """A revision's template; `spec`: fields of the revision beside its one container."""
    metadata: Manifest = {"annotations": dict(annotations or {}), "labels": {}}
    if revision:
        metadata["name"] = revision
    return {"metadata": metadata, "spec": {"containers": [runs], **spec}}


def service(name: str, template: Manifest, *traffic: Manifest) -> Manifest:
    """A Service; without `traffic` all requests go to its latest revision."""
    manifest = _knative("Service", name, {"template": template})
    if traffic:
        manifest["spec"]["traffic"] = list(traffic)
    return manifest


def configuration(name: str, template: Manifest) -> Manifest:
    return _knative("Configuration", name, {"template": template})


def route(name: str, *traffic: Manifest) -> Manifest:
    return _knative("Route", name, {"traffic": list(traffic)})


def _knative(kind: str, name: str, spec: Manifest) -> Manifest:
    metadata = {"name": name, "namespace": "default", "annotations": {}}
    return {"apiVersion": "serving.knative.dev/v1", "kind": kind, "metadata": metadata, "spec": spec}


@dataclass(frozen=True)
class Serving:
    """The Knative objects in a box's namespace `default`."""

    box: Box

    def apply(self, manifest: Manifest) -> Manifest:
        return self.box.client.apply(manifest)

    def run(self, manifest: Manifest) -> str:
        """The URL of a Service that was applied, once it is Ready."""
        self.apply(manifest)
        url: str = self.ready("service", manifest["metadata"]["name"])["status"]["url"]
        return url

    def find(self, kind: str, name: str) -> Manifest | None:
        try:
            return self.box.client.request("GET", f"{_PATHS[kind]}/{name}")
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    def get(self, kind: str, name: str) -> Manifest:
        found = self.find(kind, name)
        assert found is not None, f"{kind} {name} is not there"
        return found

    def ready(self, kind: str, name: str, *, timeout_s: float = READY_S) -> Manifest:
        """The object once it is Ready for its newest spec."""

        def is_ready() -> Manifest | None:
            found = self.get(kind, name)
            status = found.get("status") or {}
            current = status.get("observedGeneration") == found["metadata"]["generation"]
            return found if current and conditions(found).get("Ready", {}).get("status") == "True" else None

        try:
            return wait_for(f"{kind} {name} is Ready", is_ready, timeout_s=timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; status: {json.dumps(self.get(kind, name).get('status'))}") from None

    def delete(self, kind: str, name: str) -> None:
        self.box.client.request("DELETE", f"{_PATHS[kind]}/{name}")

    def revisions(self, name: str) -> list[str]:
        """The revisions of a Configuration, by name."""
        return self._labelled("revision", f"serving.knative.dev/configuration={name}")

    def pods(self, revision: str) -> list[str]:
        """The pods of a revision that are not being deleted."""
        return self._labelled("pod", f"serving.knative.dev/revision={revision}")

    def replicas(self, revision: str) -> int:
        """The pods that the autoscaler asked for."""
        replicas: int = self.get("deployment", f"{revision}-deployment")["spec"]["replicas"]
        return replicas

    def ready_pods(self, revision: str) -> int:
        return len(self._addresses(f"{revision}-private"))

    def is_proxied(self, revision: str) -> bool:
        """Whether requests to this revision are led to the activator, and to nothing else."""
        return {port for _, port in self._addresses(revision)} == {self.box.home.settings().activator_port}

    def _addresses(self, endpoints: str) -> set[tuple[str, int]]:
        """(pod or address, port) of the addresses that are ready, by their first port."""
        found = self.find("endpoints", endpoints) or {}
        return {
            (address.get("targetRef", {}).get("name") or address["ip"], subset["ports"][0]["port"])
            for subset in found.get("subsets") or ()
            for address in subset.get("addresses") or ()
        }

    def _labelled(self, kind: str, selector: str) -> list[str]:
        path = f"{_PATHS[kind]}?labelSelector={selector.replace('=', '%3D')}"
        items = self.box.client.request("GET", path)["items"]
        return sorted(item["metadata"]["name"] for item in items if "deletionTimestamp" not in item["metadata"])

    @contextmanager
    def configured(self, config_map: str, data: Mapping[str, str]) -> Iterator[None]:
        """Knative's config map with other values until the block ends."""
        before = self.get("config", config_map).get("data") or {}
        self._configure(config_map, data)
        try:
            yield
        finally:
            self._configure(config_map, {key: before.get(key) for key in data})

    def _configure(self, config_map: str, data: Mapping[str, str | None]) -> None:
        path = f"{_PATHS['config']}/{config_map}"
        self.box.client.request("PATCH", path, {"data": dict(data)}, content_type="application/merge-patch+json")


def conditions(found: Manifest) -> dict[str, Manifest]:
    """An object's conditions by type."""
    return {item["type"]: item for item in (found.get("status") or {}).get("conditions") or ()}
