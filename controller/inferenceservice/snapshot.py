"""All that one decision about one InferenceService may look at, read at one moment. (pure)"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controller.api import knative
from controller.api.core import Pod
from controller.api.defaulting import default_inference_service
from controller.api.inferenceservice import ComponentStatus, InferenceService
from controller.api.istio import VirtualService
from controller.api.servingruntime import ClusterStorageContainer, ServingRuntime
from controller.api.validation import validate_inference_service
from controller.base.errors import Invalid, UserError
from controller.base.json import JsonView
from controller.inferenceservice.ca_bundle import CaBundle
from controller.inferenceservice.components import Component, components_of
from controller.inferenceservice.config import Settings
from controller.inferenceservice.secrets import Identities


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    service: InferenceService
    """With all defaults, and with the status that was written last."""
    runtimes: tuple[ServingRuntime, ...] = ()
    """Those of the service's namespace and those of the cluster."""
    storage_containers: tuple[ClusterStorageContainer, ...] = ()
    knative_services: Mapping[str, knative.Service] = field(default_factory=dict)
    """The service's, by name."""
    virtual_service: VirtualService | None = None
    pods: tuple[Pod, ...] = ()
    """Those of all components."""
    identities: Identities = field(default_factory=Identities)
    """Service accounts and secrets that hold the credentials for the service's models."""
    ca_bundle: CaBundle | None = None
    """Certificate authorities that all initializers trust; None where the settings name none."""
    settings: Settings = field(default_factory=Settings)
    now_s: float = 0.0
    """Unix time."""
    refusal: UserError | None = None
    """What stands in the way of any plan: settings that cannot be read, a child that the API server refused."""

    def live(self, component: Component) -> knative.Service | None:
        """The Knative Service of a component, if it exists and stays."""
        found = self.knative_services.get(component.child_name)
        return found if found is not None and found.metadata.deletionTimestamp is None else None

    def status_of(self, component: Component) -> ComponentStatus:
        """What the service's status said about a component."""
        return self.service.status.components.get(component.kind) or ComponentStatus()

    @property
    def components(self) -> tuple[Component, ...]:
        return components_of(self.service)


def parse_service(manifest: JsonView, settings: Settings) -> InferenceService:
    """The service as admission would have stored it; pydantic's ValidationError where a field has the wrong type."""
    return InferenceService.parse(default_inference_service(manifest, settings.defaults))


def refusal_of(service: InferenceService, settings: Settings) -> UserError | None:
    """What admission would have said; the status says it where nobody asked, as on a cluster. None where all is well."""
    errors = tuple(validate_inference_service(service, settings.defaults))
    return Invalid(errors) if errors else None


def runtimes_for(namespace: str, manifests: Iterable[JsonView]) -> tuple[ServingRuntime, ...]:
    """Those of `manifests` that a service in `namespace` may use."""
    parsed = (ServingRuntime.parse(manifest) for manifest in manifests)
    return tuple(r for r in parsed if r.is_cluster_wide or r.metadata.namespace == namespace)
