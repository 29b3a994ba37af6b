"""Writes builtin.json: `python -m onebox.apiserver.schemas.generate`.

Fields and their types come from the models of the `kubernetes` package; what those do not say (which lists are keyed, which
values are allowed, what is filled in) stands in the tables below, as Kubernetes' API reference documents it. Run it again
when the package moves to a newer Kubernetes, and read the difference.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson
from kubernetes.client import models

ROOTS = [
    "V1Pod",
    "V1Service",
    "V1Endpoints",
    "V1ConfigMap",
    "V1Secret",
    "V1Namespace",
    "V1Node",
    "V1ServiceAccount",
    "CoreV1Event",
    "EventsV1Event",
    "V1Lease",
    "V1Deployment",
    "V1ReplicaSet",
    "V1Job",
    "V1Role",
    "V1RoleBinding",
    "V1ClusterRole",
    "V1ClusterRoleBinding",
    "V1Scale",
    "V1SelfSubjectAccessReview",
    "V1SelfSubjectRulesReview",
    "V1SelfSubjectReview",
    "V1CustomResourceDefinition",
]

KEYED_LISTS = {
    "ObjectMeta.ownerReferences": ["uid"],
    "PodSpec.containers": ["name"],
    "PodSpec.initContainers": ["name"],
    "PodSpec.ephemeralContainers": ["name"],
    "PodSpec.volumes": ["name"],
    "PodSpec.imagePullSecrets": ["name"],
    "PodSpec.hostAliases": ["ip"],
    "PodSpec.topologySpreadConstraints": ["topologyKey", "whenUnsatisfiable"],
    "PodSpec.schedulingGates": ["name"],
    "PodSpec.resourceClaims": ["name"],
    "Container.env": ["name"],
    "Container.ports": ["containerPort", "protocol"],
    "Container.volumeMounts": ["mountPath"],
    "Container.volumeDevices": ["devicePath"],
    "ResourceRequirements.claims": ["name"],
    "PodStatus.conditions": ["type"],
    "PodStatus.podIPs": ["ip"],
    "ServiceSpec.ports": ["port", "protocol"],
    "ServiceStatus.conditions": ["type"],
    "ServiceAccount.secrets": ["name"],
    "DeploymentStatus.conditions": ["type"],
    "ReplicaSetStatus.conditions": ["type"],
    "NamespaceStatus.conditions": ["type"],
    "NodeStatus.conditions": ["type"],
    "NodeStatus.addresses": ["type"],
    "JobStatus.conditions": ["type"],
    "CustomResourceDefinitionStatus.conditions": ["type"],
}
"""Lists whose items are merged by these keys; a strategic merge uses the first."""
UPDATE_ONLY_KEYED = {"JobStatus.conditions"}
"""Keyed for a strategic merge alone; server-side apply takes the list as one value."""
SETS = {"ObjectMeta.finalizers", "NodeSpec.podCIDRs"}
ATOMIC_OBJECTS = {
    "LabelSelector",
    "ObjectReference",
    "LocalObjectReference",
    "SecretKeySelector",
    "ConfigMapKeySelector",
    "ObjectFieldSelector",
    "ResourceFieldSelector",
    "NodeSelector",
    "NodeSelectorTerm",
    "TypedLocalObjectReference",
    "EndpointAddress",
    "CoreV1EndpointPort",
    "RoleRef",
    "Subject",
    "FileKeySelector",
}
NULLABLE = {"CustomResourceDefinitionStatus.conditions", "CustomResourceDefinitionStatus.storedVersions"}
"""Null until the server has looked at a new object."""
ATOMIC_MAPS = {"PodSpec.nodeSelector", "ServiceSpec.selector"}
RETAIN_KEYS = {"PodSpec.volumes": "merge,retainKeys", "DeploymentSpec.strategy": "retainKeys"}
OPEN = {"JSONSchemaProps", "FieldsV1"}
"""Kept as they come: a schema of schemas would be recursive, and fieldsV1 has no fields of its own."""

DEFAULTS: dict[str, Any] = {
    "PodSpec.restartPolicy": "Always",
    "PodSpec.terminationGracePeriodSeconds": 30,
    "PodSpec.dnsPolicy": "ClusterFirst",
    "PodSpec.securityContext": {},
    "PodSpec.schedulerName": "default-scheduler",
    "Container.resources": {},
    "Container.terminationMessagePath": "/dev/termination-log",
    "Container.terminationMessagePolicy": "File",
    "ContainerPort.protocol": "TCP",
    "Probe.timeoutSeconds": 1,
    "Probe.periodSeconds": 10,
    "Probe.successThreshold": 1,
    "Probe.failureThreshold": 3,
    "HTTPGetAction.path": "/",
    "HTTPGetAction.scheme": "HTTP",
    "GRPCAction.service": "",
    "ObjectFieldSelector.apiVersion": "v1",
    "SecretVolumeSource.defaultMode": 420,
    "ConfigMapVolumeSource.defaultMode": 420,
    "DownwardAPIVolumeSource.defaultMode": 420,
    "ProjectedVolumeSource.defaultMode": 420,
    "ServiceAccountTokenProjection.expirationSeconds": 3600,
    "HostPathVolumeSource.type": "",
    "ServicePort.protocol": "TCP",
    "ServiceSpec.type": "ClusterIP",
    "ServiceSpec.sessionAffinity": "None",
    "ServiceStatus.loadBalancer": {},
    "CoreV1EndpointPort.protocol": "TCP",
    "DeploymentSpec.replicas": 1,
    "DeploymentSpec.strategy": {},
    "DeploymentSpec.revisionHistoryLimit": 10,
    "DeploymentSpec.progressDeadlineSeconds": 600,
    "DeploymentStrategy.type": "RollingUpdate",
    "ReplicaSetSpec.replicas": 1,
    "JobSpec.backoffLimit": 6,
    "JobSpec.completionMode": "NonIndexed",
    "JobSpec.manualSelector": False,
    "JobSpec.podReplacementPolicy": "TerminatingOrFailed",
    "JobSpec.suspend": False,
    "Secret.type": "Opaque",
    "CustomResourceConversion.strategy": "None",
}
ENUMS = {
    "PodSpec.restartPolicy": ["Always", "OnFailure", "Never"],
    "PodSpec.dnsPolicy": ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
    "Container.imagePullPolicy": ["Always", "IfNotPresent", "Never"],
    "Container.terminationMessagePolicy": ["FallbackToLogsOnError", "File"],
    "ContainerPort.protocol": ["SCTP", "TCP", "UDP"],
    "HTTPGetAction.scheme": ["HTTP", "HTTPS"],
    "ServicePort.protocol": ["SCTP", "TCP", "UDP"],
    "ServiceSpec.type": ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
    "ServiceSpec.sessionAffinity": ["ClientIP", "None"],
    "DeploymentStrategy.type": ["Recreate", "RollingUpdate"],
    "CustomResourceDefinitionSpec.scope": ["Cluster", "Namespaced"],
}
BOUNDS = {
    "ContainerPort.containerPort": (1, 65535),
    "ServicePort.port": (1, 65535),
    "DeploymentSpec.replicas": (0, None),
}
QUANTITIES = {
    "ResourceRequirements.limits",
    "ResourceRequirements.requests",
    "EmptyDirVolumeSource.sizeLimit",
    "ResourceFieldSelector.divisor",
    "PodSpec.overhead",
    "NodeStatus.capacity",
    "NodeStatus.allocatable",
    "ContainerStatus.allocatedResources",
    "PodStatus.allocatedResources",
}
SCALARS = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "bytes": "string", "object": None}


def main() -> None:
    definitions: dict[str, Any] = {}
    for root in ROOTS:
        _define(root, definitions)
    target = Path(__file__).with_name("builtin.json")
    target.write_bytes(orjson.dumps(definitions, option=orjson.OPT_SORT_KEYS) + b"\n")


def _name(model: str) -> str:
    return re.sub(r"^V1(?=[A-Z])", "", model)


def _define(model: str, definitions: dict[str, Any]) -> str:
    name = _name(model)
    if name in definitions:
        return name
    definition: dict[str, Any] = definitions.setdefault(name, {"type": "object"})
    if name in OPEN:
        definition["x-kubernetes-preserve-unknown-fields"] = True
        return name
    if name in ATOMIC_OBJECTS:
        definition["x-kubernetes-map-type"] = "atomic"
    declared = getattr(models, model)
    properties, required = definition.setdefault("properties", {}), []
    attributes = {json_name: attribute for attribute, json_name in declared.attribute_map.items()}
    for attribute, field in declared.model_fields.items():
        json_name = field.serialization_alias or attribute
        type_name = declared.openapi_types[attributes[json_name]]
        properties[json_name] = _field(f"{name}.{json_name}", type_name, field, definitions)
        if field.is_required():
            required.append(json_name)
    if required:
        definition["required"] = required
    return name


def _field(path: str, type_name: str, field: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    # A container's fields are the same in all three flavours.
    path = path.replace("EphemeralContainer.", "Container.")
    schema = _type(path, type_name, field, definitions)
    if path in KEYED_LISTS:
        schema["x-kubernetes-patch-merge-key"] = KEYED_LISTS[path][0]
        schema["x-kubernetes-patch-strategy"] = "merge"
        if path not in UPDATE_ONLY_KEYED:
            schema |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": KEYED_LISTS[path]}
    if path in SETS:
        schema |= {"x-kubernetes-list-type": "set", "x-kubernetes-patch-strategy": "merge"}
    if path in ATOMIC_MAPS:
        schema["x-kubernetes-map-type"] = "atomic"
    if path in NULLABLE:
        schema["nullable"] = True
    if path in RETAIN_KEYS:
        schema["x-kubernetes-patch-strategy"] = RETAIN_KEYS[path]
    if path in DEFAULTS:
        schema["default"] = DEFAULTS[path]
    if path in ENUMS:
        schema["enum"] = ENUMS[path]
    if path in BOUNDS:
        low, high = BOUNDS[path]
        schema |= {"minimum": low} | ({"maximum": high} if high else {})
    return schema


def _type(path: str, type_name: str, field: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if listed := re.fullmatch(r"(?:list|List)\[(.+)\]", type_name):
        return {"type": "array", "items": _type(path, listed[1], field, definitions)}
    if mapped := re.fullmatch(r"(?:dict|Dict)\(?\[?str, (.+?)\]?\)?", type_name):
        return {"type": "object", "additionalProperties": _type(path, mapped[1], field, definitions)}
    if path in QUANTITIES:
        return {"x-kubernetes-int-or-string": True, "format": "quantity"}
    if type_name == "datetime":
        return {"type": "string", "format": "date-time"}
    if type_name in ("object", "IntOrString"):
        return _untyped(str(field.annotation))
    if type_name in SCALARS:
        return {"type": SCALARS[type_name]}
    return {"$ref": _define(type_name, definitions)}


def _untyped(annotation: str) -> dict[str, Any]:
    if "int" in annotation and "str" in annotation:
        return {"x-kubernetes-int-or-string": True}
    return {"x-kubernetes-preserve-unknown-fields": True}


if __name__ == "__main__":
    main()
