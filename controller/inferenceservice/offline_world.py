"""What exists besides the manifests of an offline question: what was given, else what a onebox starts with. (pure)"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.resources import files
from typing import Any, Final

import yaml
from pydantic import ValidationError

from controller.api import knative
from controller.api.config_text import CONFIG_NAME
from controller.api.core import ConfigMap, Pod
from controller.api.field_errors import required, type_errors
from controller.api.inferenceservice import KIND as SERVICE_KIND
from controller.api.istio import VirtualService
from controller.api.servingruntime import CLUSTER_KIND, ClusterStorageContainer
from controller.api.servingruntime import KIND as RUNTIME_KIND
from controller.base.errors import Invalid
from controller.base.json import JsonObject, JsonView
from controller.base.names import ISVC_LABEL
from controller.inferenceservice.ca_bundle import CaBundle, ca_bundle_for
from controller.inferenceservice.config import KNATIVE_CONFIG_NAMES, Settings, parse_settings
from controller.inferenceservice.secrets import Identities, view_account, view_secret
from controller.inferenceservice.snapshot import Snapshot, parse_service, runtimes_for

KSERVE_GROUP: Final = "serving.kserve.io"
_RUNTIME_KINDS: Final = (RUNTIME_KIND, CLUSTER_KIND)
_KSERVE_NAMESPACE: Final = "kserve"


class OfflineWorld:
    """`existing` is what the cluster has, `manifests` what was asked about; runtimes among these count as well."""

    def __init__(self, existing: Sequence[JsonObject], manifests: Sequence[JsonObject]) -> None:
        self._existing = existing
        runtimes = [item for item in existing if is_a(item, KSERVE_GROUP, *_RUNTIME_KINDS)]
        runtimes = runtimes or [*_shipped("runtimes", CLUSTER_KIND), *_shipped("onebox", CLUSTER_KIND)]
        self._runtimes = [*runtimes, *(item for item in manifests if is_a(item, KSERVE_GROUP, *_RUNTIME_KINDS))]
        self.settings = self._parse_settings()

    def snapshot(self, service: JsonObject) -> Snapshot:
        """What the controller would see of `service`."""
        name, namespace = str(service["metadata"]["name"]), str(service["metadata"]["namespace"])
        known = self._find(KSERVE_GROUP, SERVICE_KIND, name, namespace)
        if known is not None:
            meta = {"generation": known["metadata"].get("generation") or 1, **service["metadata"]}
            meta |= {field: known["metadata"][field] for field in ("uid", "generation") if field in known["metadata"]}
            service = {**service, "metadata": meta, "status": known.get("status") or {}}
        try:
            return self._parse(service, name, namespace)
        except ValidationError as error:
            raise Invalid(type_errors(error)) from None

    def stored(self, manifest: JsonView) -> JsonObject | None:
        """The existing object that `manifest` would replace."""
        group, _, _ = str(manifest.get("apiVersion") or "").rpartition("/")
        meta = manifest["metadata"]
        return self._find(group, str(manifest.get("kind")), str(meta.get("name")), meta.get("namespace"))

    def others(self, manifest: JsonView) -> Iterator[JsonObject]:
        """The other runtimes of the scope of the runtime `manifest`."""
        meta = manifest["metadata"]
        for item in self._runtimes:
            same_scope = item["kind"] == manifest.get("kind") and item["metadata"].get("namespace") == meta.get(
                "namespace"
            )
            if same_scope and item["metadata"].get("name") != meta.get("name"):
                yield item

    def _parse(self, service: JsonObject, name: str, namespace: str) -> Snapshot:
        live = [item for item in self._existing if item["metadata"].get("namespace") == namespace]
        virtual_service = self._find("networking.istio.io", "VirtualService", name, namespace)
        pods = (item for item in live if is_a(item, "", "Pod"))
        return Snapshot(
            service=parse_service(service, self.settings),
            runtimes=runtimes_for(namespace, self._runtimes),
            storage_containers=tuple(
                ClusterStorageContainer.parse(item)
                for item in self._existing
                if is_a(item, KSERVE_GROUP, "ClusterStorageContainer")
            ),
            knative_services={
                item["metadata"]["name"]: knative.Service.parse(item)
                for item in live
                if is_a(item, knative.GROUP, "Service")
            },
            virtual_service=VirtualService.parse(virtual_service) if virtual_service is not None else None,
            pods=tuple(Pod.parse(pod) for pod in pods if (pod["metadata"].get("labels") or {}).get(ISVC_LABEL) == name),
            identities=self._identities(namespace),
            ca_bundle=self._ca_bundle(namespace),
            settings=self.settings,
        )

    def _identities(self, namespace: str) -> Identities:
        """The namespace's accounts and secrets. Where none are given, nobody looked; otherwise these are all."""
        live = [item for item in self._existing if item["metadata"].get("namespace") == namespace]
        accounts = [view_account(item) for item in live if is_a(item, "", "ServiceAccount")]
        secrets = [view_secret(item) for item in live if is_a(item, "", "Secret")]
        return Identities(
            namespace=namespace,
            accounts={item.name: item for item in accounts},
            secrets={item.name: item for item in secrets},
            complete=bool(accounts or secrets),
        )

    def _ca_bundle(self, namespace: str) -> CaBundle | None:
        name = self.settings.storage_initializer.ca_bundle_config_map
        original = self._find("", "ConfigMap", name, _KSERVE_NAMESPACE)
        data = (original or {}).get("data")
        return ca_bundle_for(namespace, name, kserve_namespace=_KSERVE_NAMESPACE, data=data)

    def _parse_settings(self) -> Settings:
        given = [item for item in self._existing if is_a(item, "", "ConfigMap")]
        maps = {item["metadata"]["name"]: ConfigMap.parse(item) for item in (*_shipped("onebox", "ConfigMap"), *given)}
        settings = parse_settings(
            maps.get(CONFIG_NAME), {name: maps[name] for name in KNATIVE_CONFIG_NAMES if name in maps}
        )
        if any(item["metadata"]["name"] == CONFIG_NAME for item in given):
            return settings
        # Nobody said that this is a onebox, and elsewhere a VirtualService may never say that it is in force.
        return replace(settings, ingress=replace(settings.ingress, await_reconciled=False))

    def _find(self, group: str, kind: str, name: str, namespace: str | None) -> JsonObject | None:
        return next(
            (
                item
                for item in self._existing
                if is_a(item, group, kind)
                and item["metadata"].get("name") == name
                and item["metadata"].get("namespace") == namespace
            ),
            None,
        )


def _shipped(folder: str, kind: str) -> list[JsonObject]:
    """The objects of this kind that Ladle installs."""
    entries = files("manifests").joinpath(folder).iterdir()
    texts = [entry.read_text() for entry in sorted(entries, key=lambda e: e.name) if entry.name.endswith(".yaml")]
    loaded: list[Any] = [item for text in texts for item in yaml.safe_load_all(text)]
    return [item for item in loaded if item and item["kind"] == kind]


def placed(manifest: JsonView, namespace: str) -> JsonObject:
    """The object with a namespace, if its kind has namespaces and it names none; Invalid where it is no Kubernetes object."""
    errors = [required(name) for name in ("apiVersion", "kind") if not _is_text(manifest.get(name))]
    given = manifest.get("metadata")
    if not isinstance(given, dict):
        raise Invalid([*errors, required("metadata", "an object with a name")])
    if not _is_text(given.get("name")) and not _is_text(given.get("generateName")):
        errors.append(required("metadata.name"))
    if errors:
        raise Invalid(errors)
    meta = {**given}
    if not str(manifest.get("kind") or "").startswith("Cluster"):
        meta["namespace"] = meta.get("namespace") or namespace
    return {**manifest, "metadata": meta}


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def is_a(manifest: JsonView, group: str, *kinds: str) -> bool:
    own, separator, _ = str(manifest.get("apiVersion") or "").partition("/")
    return manifest.get("kind") in kinds and (own if separator else "") == group
