"""The controller's and admission's decisions without a cluster: what `ladle render` and `ladle validate` print. (pure)

Manifests in, children or verdicts out, by the same functions that run in the controller. What exists in the cluster can be
given as objects; settings and runtimes that they do not hold are those that a new onebox starts with.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, Final

import orjson
import yaml
from pydantic import ValidationError

from controller.api import knative
from controller.api.admission import AdmissionRequest, Admit, Operation
from controller.api.core import ConfigMap, Pod
from controller.api.field_errors import type_errors
from controller.api.inferenceservice import KIND as SERVICE_KIND
from controller.api.istio import VirtualService
from controller.api.servingruntime import CLUSTER_KIND, ClusterStorageContainer
from controller.api.servingruntime import KIND as RUNTIME_KIND
from controller.api.structural import StructuralSchema
from controller.api.validation import inference_service_admission
from controller.api.validation_runtimes import admit_serving_runtime
from controller.base.errors import FieldError, Invalid, UserError
from controller.base.json import JsonObject, JsonView
from controller.base.names import ISVC_LABEL
from controller.inferenceservice.ca_bundle import CaBundle, ca_bundle_for
from controller.inferenceservice.config import CONFIG_NAME, KNATIVE_CONFIG_NAMES, Settings, parse_settings
from controller.inferenceservice.plan import plan_inference_service
from controller.inferenceservice.secrets import Identities, view_account, view_secret
from controller.inferenceservice.snapshot import Snapshot, parse_service, runtimes_for
from controller.kube.resources import resource_type_of
from controller.reconcile.plan import Plan

NOWHERE_UID: Final = "00000000-0000-0000-0000-000000000000"
"""Stands for the uid that only a stored service has."""
_RUNTIME_KINDS: Final = (RUNTIME_KIND, CLUSTER_KIND)
_KSERVE_GROUP: Final = "serving.kserve.io"
_KSERVE_NAMESPACE: Final = "kserve"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What admission says about one object."""

    kind: str
    name: str
    errors: tuple[FieldError, ...] = ()
    defaulted: JsonObject | None = None
    """The object as it would be stored; None where it is refused."""

    def __str__(self) -> str:
        what = f"{self.kind}/{self.name}"
        if not self.errors:
            return f"accepted {what}"
        return "\n".join(f"refused {what}: {error}" for error in self.errors)


def render(
    objects: Iterable[JsonView],
    *,
    existing: Iterable[JsonView] = (),
    namespace: str = "default",
    with_status: bool = False,
) -> list[JsonObject]:
    """The children of the InferenceServices in `objects`, and with `with_status` these themselves with their status.

    Runtimes among `objects` count as well. UserError where a manifest is refused or cannot be reconciled.
    """
    rendered: list[JsonObject] = []
    for stored, snapshot in snapshots(objects, existing=existing, namespace=namespace):
        plan = plan_inference_service(snapshot)
        if plan.keep_children and not with_status:
            raise _blocking(plan)
        rendered += [dict(child.manifest) for child in plan.children]
        if with_status:
            rendered.append({**stored, "status": dict(plan.status or {})})
    return rendered


def snapshots(
    objects: Iterable[JsonView], *, existing: Iterable[JsonView] = (), namespace: str = "default"
) -> Iterator[tuple[JsonObject, Snapshot]]:
    """Each InferenceService in `objects` as it would be stored, and what the controller would see of it; as for `render`."""
    manifests = [_placed(item, namespace) for item in objects]
    world = _World([_placed(item, namespace) for item in existing], manifests)
    for manifest in manifests:
        if _is(manifest, _KSERVE_GROUP, SERVICE_KIND):
            stored = _admitted(manifest, world.settings)
            yield stored, world.snapshot(stored)


def validate(
    objects: Iterable[JsonView], *, old: JsonView | None = None, namespace: str = "default"
) -> Iterator[Verdict]:
    """A verdict for each object; `old` is the stored object that the one of its kind and name would replace.

    Objects of kinds that have no admission are judged by their schema alone, and accepted where there is none.
    """
    for item in objects:
        manifest = _placed(item, namespace)
        replaces = old if old is not None and _identity(old) == _identity(manifest) else None
        yield _verdict(manifest, replaces)


def _verdict(manifest: JsonObject, old: JsonView | None) -> Verdict:
    kind, name = str(manifest.get("kind") or ""), str(manifest["metadata"].get("name") or "")
    try:
        return Verdict(kind=kind, name=name, defaulted=_admit(manifest, old, _ADMITS))
    except Invalid as error:
        return Verdict(kind=kind, name=name, errors=error.errors)


def _admit(manifest: JsonObject, old: JsonView | None, admits: Mapping[str, Admit]) -> JsonObject:
    """The object as it would be stored: known fields only, defaults, the kind's own rules, then the schema."""
    kind, api_version = str(manifest.get("kind") or ""), str(manifest.get("apiVersion") or "")
    offered: JsonObject = copy.deepcopy(manifest)
    schema = _schema(api_version, kind)
    unknown = schema.prune(offered) if schema is not None else ()
    errors = [FieldError(field=path, message="unknown field") for path in unknown]
    admit = admits.get(kind) if _is(manifest, _KSERVE_GROUP, kind) else None
    stored = offered
    if admit is not None:
        try:
            stored = admit(_request(offered, old, kind))
        except Invalid as error:
            errors += error.errors
    if schema is not None:
        known = {error.field for error in errors}
        errors += [error for error in schema.validate(stored) if error.field not in known]
    if errors:
        raise Invalid(errors)
    return stored


def _request(offered: JsonObject, old: JsonView | None, kind: str) -> AdmissionRequest:
    return AdmissionRequest(
        operation=Operation.UPDATE if old is not None else Operation.CREATE,
        group=_KSERVE_GROUP,
        kind=kind,
        namespace=str(offered["metadata"].get("namespace") or ""),
        name=str(offered["metadata"].get("name") or ""),
        object=offered,
        old=old,
    )


@cache
def _schema(api_version: str, kind: str) -> StructuralSchema | None:
    """The schema of a kind that a shipped CRD describes."""
    try:
        resource = resource_type_of(api_version, kind)
    except UserError:
        return None
    file = files("manifests").joinpath("crds", f"{resource.plural}.{resource.group}.json")
    if not file.is_file():
        return None
    versions = orjson.loads(file.read_bytes())["spec"]["versions"]
    found = next((item for item in versions if item["name"] == resource.version), None)
    return StructuralSchema.compile(found["schema"]["openAPIV3Schema"]) if found is not None else None


_ADMITS: Final[Mapping[str, Admit]] = {
    SERVICE_KIND: inference_service_admission(),
    RUNTIME_KIND: admit_serving_runtime,
    CLUSTER_KIND: admit_serving_runtime,
}


def _admitted(manifest: JsonObject, settings: Settings) -> JsonObject:
    stored = _admit(manifest, None, {SERVICE_KIND: inference_service_admission(settings.defaults)})
    meta = {"uid": NOWHERE_UID, "generation": 1, **stored["metadata"]}
    return {**stored, "metadata": meta}


def _blocking(plan: Plan) -> UserError:
    """Why a service cannot be reconciled, as its status would say."""
    warning = next((event for event in plan.events if event.type == "Warning"), None)
    return UserError(
        warning.reason if warning else "NotReconciled", warning.message if warning else "it is being deleted"
    )


class _World:
    """The objects that exist besides the manifests."""

    def __init__(self, existing: Sequence[JsonObject], manifests: Sequence[JsonObject]) -> None:
        self._existing = existing
        runtimes = [item for item in existing if _is(item, _KSERVE_GROUP, *_RUNTIME_KINDS)]
        runtimes = runtimes or [*_shipped("runtimes", CLUSTER_KIND), *_shipped("onebox", CLUSTER_KIND)]
        self._runtimes = [*runtimes, *(item for item in manifests if _is(item, _KSERVE_GROUP, *_RUNTIME_KINDS))]
        self.settings = self._parse_settings()

    def snapshot(self, service: JsonObject) -> Snapshot:
        """What the controller would see of `service`."""
        name, namespace = str(service["metadata"]["name"]), str(service["metadata"]["namespace"])
        known = self._find(_KSERVE_GROUP, SERVICE_KIND, name, namespace)
        if known is not None:
            meta = {"generation": known["metadata"].get("generation") or 1, **service["metadata"]}
            meta |= {field: known["metadata"][field] for field in ("uid", "generation") if field in known["metadata"]}
            service = {**service, "metadata": meta, "status": known.get("status") or {}}
        try:
            return self._parse(service, name, namespace)
        except ValidationError as error:
            raise Invalid(type_errors(error)) from None

    def _parse(self, service: JsonObject, name: str, namespace: str) -> Snapshot:
        live = [item for item in self._existing if item["metadata"].get("namespace") == namespace]
        virtual_service = self._find("networking.istio.io", "VirtualService", name, namespace)
        pods = (item for item in live if _is(item, "", "Pod"))
        return Snapshot(
            service=parse_service(service, self.settings),
            runtimes=runtimes_for(namespace, self._runtimes),
            storage_containers=tuple(
                ClusterStorageContainer.parse(item)
                for item in self._existing
                if _is(item, _KSERVE_GROUP, "ClusterStorageContainer")
            ),
            knative_services={
                item["metadata"]["name"]: knative.Service.parse(item)
                for item in live
                if _is(item, knative.GROUP, "Service")
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
        accounts = [view_account(item) for item in live if _is(item, "", "ServiceAccount")]
        secrets = [view_secret(item) for item in live if _is(item, "", "Secret")]
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
        given = [item for item in self._existing if _is(item, "", "ConfigMap")]
        maps = {item["metadata"]["name"]: ConfigMap.parse(item) for item in (*_shipped("onebox", "ConfigMap"), *given)}
        settings = parse_settings(
            maps.get(CONFIG_NAME), {name: maps[name] for name in KNATIVE_CONFIG_NAMES if name in maps}
        )
        if any(item["metadata"]["name"] == CONFIG_NAME for item in given):
            return settings
        # Nobody said that this is a onebox, and elsewhere a VirtualService may never say that it is in force.
        return replace(settings, ingress=replace(settings.ingress, await_reconciled=False))

    def _find(self, group: str, kind: str, name: str, namespace: str) -> JsonObject | None:
        return next(
            (
                item
                for item in self._existing
                if _is(item, group, kind)
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


def _placed(manifest: JsonView, namespace: str) -> JsonObject:
    """The object with a namespace, if its kind has namespaces and it names none."""
    meta = {**(manifest.get("metadata") or {})}
    if not str(manifest.get("kind") or "").startswith("Cluster"):
        meta["namespace"] = meta.get("namespace") or namespace
    return {**manifest, "metadata": meta}


def _is(manifest: JsonView, group: str, *kinds: str) -> bool:
    own, separator, _ = str(manifest.get("apiVersion") or "").partition("/")
    return manifest.get("kind") in kinds and (own if separator else "") == group


def _identity(manifest: JsonView) -> tuple[str, str]:
    return str(manifest.get("kind")), str((manifest.get("metadata") or {}).get("name"))
