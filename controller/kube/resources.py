"""The kinds that Ladle talks about, and the URLs under which an API server keeps them.

A kind is known here by group, one version and plural, so no discovery request is ever needed. What a kind's objects look
like is the business of controller.api.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.base.errors import UserError


@dataclass(frozen=True, slots=True)
class ResourceType:
    """A kind as it is addressed over HTTP; `group` is "" for Kubernetes' core."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`apiVersion` of its objects: `apps/v1`, or `v1` in the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL's path of one object, or of the collection: in one namespace, or across all where that is None."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            assert namespace or not self.namespaced, f"{self.kind} {name} needs a namespace"
            parts.append(name)
            if subresource:
                parts.append(subresource)
        return "/".join(parts)


PODS = ResourceType("", "v1", "pods", "Pod")
SERVICES = ResourceType("", "v1", "services", "Service")
ENDPOINTS = ResourceType("", "v1", "endpoints", "Endpoints")
CONFIG_MAPS = ResourceType("", "v1", "configmaps", "ConfigMap")
SECRETS = ResourceType("", "v1", "secrets", "Secret")
SERVICE_ACCOUNTS = ResourceType("", "v1", "serviceaccounts", "ServiceAccount")
EVENTS = ResourceType("", "v1", "events", "Event")
NAMESPACES = ResourceType("", "v1", "namespaces", "Namespace", namespaced=False)
NODES = ResourceType("", "v1", "nodes", "Node", namespaced=False)
LEASES = ResourceType("coordination.k8s.io", "v1", "leases", "Lease")
DEPLOYMENTS = ResourceType("apps", "v1", "deployments", "Deployment")
CRDS = ResourceType(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)

KNATIVE_SERVICES = ResourceType("serving.knative.dev", "v1", "services", "Service")
CONFIGURATIONS = ResourceType("serving.knative.dev", "v1", "configurations", "Configuration")
REVISIONS = ResourceType("serving.knative.dev", "v1", "revisions", "Revision")
ROUTES = ResourceType("serving.knative.dev", "v1", "routes", "Route")
POD_AUTOSCALERS = ResourceType("autoscaling.internal.knative.dev", "v1alpha1", "podautoscalers", "PodAutoscaler")
SERVERLESS_SERVICES = ResourceType(
    "networking.internal.knative.dev", "v1alpha1", "serverlessservices", "ServerlessService"
)

VIRTUAL_SERVICES = ResourceType("networking.istio.io", "v1", "virtualservices", "VirtualService")
GATEWAYS = ResourceType("networking.istio.io", "v1", "gateways", "Gateway")
DESTINATION_RULES = ResourceType("networking.istio.io", "v1", "destinationrules", "DestinationRule")

INFERENCE_SERVICES = ResourceType("serving.kserve.io", "v1beta1", "inferenceservices", "InferenceService")
SERVING_RUNTIMES = ResourceType("serving.kserve.io", "v1alpha1", "servingruntimes", "ServingRuntime")
CLUSTER_SERVING_RUNTIMES = ResourceType(
    "serving.kserve.io", "v1alpha1", "clusterservingruntimes", "ClusterServingRuntime", namespaced=False
)
CLUSTER_STORAGE_CONTAINERS = ResourceType(
    "serving.kserve.io", "v1alpha1", "clusterstoragecontainers", "ClusterStorageContainer", namespaced=False
)
INFERENCE_GRAPHS = ResourceType("serving.kserve.io", "v1alpha1", "inferencegraphs", "InferenceGraph")
TRAINED_MODELS = ResourceType("serving.kserve.io", "v1alpha1", "trainedmodels", "TrainedModel")

KNOWN: tuple[ResourceType, ...] = (
    PODS, SERVICES, ENDPOINTS, CONFIG_MAPS, SECRETS, SERVICE_ACCOUNTS, EVENTS, NAMESPACES, NODES, LEASES, DEPLOYMENTS, CRDS,
    KNATIVE_SERVICES, CONFIGURATIONS, REVISIONS, ROUTES, POD_AUTOSCALERS, SERVERLESS_SERVICES, VIRTUAL_SERVICES, GATEWAYS,
    DESTINATION_RULES,
    INFERENCE_SERVICES, SERVING_RUNTIMES, CLUSTER_SERVING_RUNTIMES, CLUSTER_STORAGE_CONTAINERS,
    INFERENCE_GRAPHS, TRAINED_MODELS,
)  # fmt: skip
"""Every kind that a part of Ladle reads or writes."""

_BY_API_VERSION_AND_KIND = {(resource.api_version, resource.kind): resource for resource in KNOWN}


def resource_type_of(api_version: str, kind: str) -> ResourceType:
    """The resource of objects with this `apiVersion` and `kind`; UserError UnknownKind where Ladle knows none."""
    found = _BY_API_VERSION_AND_KIND.get((api_version, kind))
    if found is None:
        raise UserError(
            "UnknownKind", f"apiVersion = {api_version!r}, kind = {kind!r}, must be a kind that Ladle works with"
        )
    return found
