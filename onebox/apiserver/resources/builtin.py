"""Kubernetes' own kinds as far as onebox serves them. Their schemas are data: onebox/apiserver/schemas/builtin.json."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import orjson

from controller.api.structural import Node, NodePool, StructuralSchema
from controller.base.json import JsonObject
from onebox.apiserver.kinds import cluster, configuration, pods, services, workloads
from onebox.apiserver.kinds.strategy import Strategy
from onebox.apiserver.resources.types import Resource, ScalePaths, Schemas, Version

_REPLICAS = ScalePaths(spec="spec.replicas", status="status.replicas", selector="spec.selector")
_SCHEMA_FILE = "builtin.json"


def definitions() -> JsonObject:
    """The schemas of built-in kinds by name, as they stand in the file."""
    loaded: JsonObject = orjson.loads(files("onebox.apiserver.schemas").joinpath(_SCHEMA_FILE).read_bytes())
    return loaded


class BuiltinSchemas:
    """Compiles built-in kinds, all from one pool so that they share what they have in common, ObjectMeta above all."""

    def __init__(self) -> None:
        self.pool = NodePool(definitions())
        self.meta: Node = self.pool.build({"$ref": "ObjectMeta"})

    def schemas_of(self, definition: str) -> Schemas:
        return Schemas(lambda: self._compile(definition), lambda: _described(definition))

    def _compile(self, definition: str) -> StructuralSchema:
        node = self.pool.build({"$ref": definition})
        return StructuralSchema.of_node(node, meta=self.meta)


def _described(definition: str) -> JsonObject:
    described: JsonObject = definitions()[definition]
    return described


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    group: str
    plural: str
    kind: str
    strategy: Strategy = cluster.STORED
    version: str = "v1"
    definition: str = ""
    namespaced: bool = True
    status: bool = False
    scale: ScalePaths | None = None
    short: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[tuple[str, str, tuple[str, ...]], ...] = ()


_RBAC = "rbac.authorization.k8s.io"
_ALL = ("all",)
_KINDS = (
    _Kind(group="", plural="configmaps", kind="ConfigMap", strategy=configuration.CONFIG_MAP, short=("cm",)),
    _Kind(group="", plural="endpoints", kind="Endpoints", strategy=services.ENDPOINTS, short=("ep",)),
    _Kind(group="", plural="events", kind="Event", strategy=cluster.EVENT, definition="CoreV1Event", short=("ev",)),
    _Kind(
        group="", plural="namespaces", kind="Namespace", strategy=cluster.NAMESPACE, namespaced=False, status=True,
        short=("ns",), subresources=(("finalize", "Namespace", ("update",)),),
    ),
    _Kind(group="", plural="nodes", kind="Node", strategy=cluster.NODE, namespaced=False, status=True, short=("no",)),
    _Kind(
        group="", plural="pods", kind="Pod", strategy=pods.POD, status=True, short=("po",), categories=_ALL,
        subresources=(("log", "Pod", ("get",)),),
    ),
    _Kind(group="", plural="secrets", kind="Secret", strategy=configuration.SECRET),
    _Kind(group="", plural="serviceaccounts", kind="ServiceAccount", short=("sa",)),
    _Kind(group="", plural="services", kind="Service", strategy=services.SERVICE, status=True, short=("svc",), categories=_ALL),
    _Kind(
        group="apps", plural="deployments", kind="Deployment", strategy=workloads.DEPLOYMENT, status=True,
        scale=_REPLICAS, short=("deploy",), categories=_ALL,
    ),
    _Kind(
        group="apps", plural="replicasets", kind="ReplicaSet", strategy=workloads.REPLICA_SET, status=True,
        scale=_REPLICAS, short=("rs",), categories=_ALL,
    ),
    _Kind(group="batch", plural="jobs", kind="Job", strategy=workloads.JOB, status=True, categories=_ALL),
    _Kind(group="coordination.k8s.io", plural="leases", kind="Lease", strategy=cluster.LEASE),
    _Kind(group=_RBAC, plural="roles", kind="Role"),
    _Kind(group=_RBAC, plural="rolebindings", kind="RoleBinding", strategy=cluster.BINDING),
    _Kind(group=_RBAC, plural="clusterroles", kind="ClusterRole", namespaced=False),
    _Kind(group=_RBAC, plural="clusterrolebindings", kind="ClusterRoleBinding", strategy=cluster.BINDING, namespaced=False),
)  # fmt: skip


def builtin_resources(schemas: BuiltinSchemas, crd_strategy: Strategy) -> list[Resource]:
    """All built-in kinds, that of custom resource definitions included."""
    crd = _Kind(
        group="apiextensions.k8s.io",
        plural="customresourcedefinitions",
        kind="CustomResourceDefinition",
        strategy=crd_strategy,
        namespaced=False,
        status=True,
        short=("crd", "crds"),
        categories=("api-extensions",),
    )
    return [_resource(kind, schemas) for kind in (*_KINDS, crd)]


def _resource(kind: _Kind, schemas: BuiltinSchemas) -> Resource:
    version = Version(
        name=kind.version,
        schemas=schemas.schemas_of(kind.definition or kind.kind),
        has_status=kind.status,
        scale=kind.scale,
    )
    names: dict[str, Any] = {"singular": kind.kind.lower(), "list_kind": f"{kind.kind}List"}
    return Resource(
        group=kind.group,
        plural=kind.plural,
        kind=kind.kind,
        versions={kind.version: version},
        storage=kind.version,
        namespaced=kind.namespaced,
        short_names=kind.short,
        categories=kind.categories,
        subresources=kind.subresources,
        strategy=kind.strategy,
        **names,
    )
