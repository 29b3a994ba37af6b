"""serving.knative.dev/v1: Service, Configuration, Revision and Route.

Only what somebody here reads has a name; the rest of an object rides along unread (see meta.ApiModel). Defaults and
validation are admission's, not this module's: a field that is not set reads as None.
"""

from __future__ import annotations

from typing import Final

from pydantic import Field

from controller.api.core import Container, PodSpec
from controller.api.meta import ApiModel, Condition, Resource

API_VERSION: Final = "serving.knative.dev/v1"
GROUP: Final = "serving.knative.dev"


class TemplateMeta(ApiModel):
    """The metadata of a revision template: a name only where the user chooses the revision's name."""

    name: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class RevisionSpec(PodSpec):
    """A pod spec with Knative's four fields."""

    containerConcurrency: int | None = None
    timeoutSeconds: int | None = None
    responseStartTimeoutSeconds: int | None = None
    idleTimeoutSeconds: int | None = None

    def serving_container(self) -> Container:
        """The container that takes requests: the only one, or the one with a port."""
        with_port = (container for container in self.containers if container.ports)
        return next(with_port, self.containers[0] if self.containers else Container())


class RevisionTemplate(ApiModel):
    metadata: TemplateMeta = Field(default_factory=TemplateMeta)
    spec: RevisionSpec = Field(default_factory=RevisionSpec)


class TrafficTarget(ApiModel):
    """One line of traffic; in a spec revisionName, configurationName or latestRevision says where to."""

    tag: str | None = None
    revisionName: str | None = None
    configurationName: str | None = None
    latestRevision: bool | None = None
    percent: int | None = None
    url: str | None = None


class Addressable(ApiModel):
    url: str | None = None


class KnativeStatus(ApiModel):
    """What the status of every kind begins with."""

    observedGeneration: int | None = None
    conditions: list[Condition] = Field(default_factory=list)
    annotations: dict[str, str] | None = None

    def condition(self, type_: str) -> Condition | None:
        """The condition of this type, if the status has it."""
        return next((condition for condition in self.conditions if condition.type == type_), None)


class ConfigurationSpec(ApiModel):
    template: RevisionTemplate = Field(default_factory=RevisionTemplate)


class ConfigurationStatus(KnativeStatus):
    latestCreatedRevisionName: str | None = None
    latestReadyRevisionName: str | None = None


class Configuration(Resource):
    spec: ConfigurationSpec = Field(default_factory=ConfigurationSpec)
    status: ConfigurationStatus = Field(default_factory=ConfigurationStatus)


class RouteSpec(ApiModel):
    traffic: list[TrafficTarget] = Field(default_factory=list)


class RouteStatus(KnativeStatus):
    url: str | None = None
    address: Addressable | None = None
    traffic: list[TrafficTarget] | None = None


class Route(Resource):
    spec: RouteSpec = Field(default_factory=RouteSpec)
    status: RouteStatus = Field(default_factory=RouteStatus)


class ServiceSpec(ApiModel):
    template: RevisionTemplate = Field(default_factory=RevisionTemplate)
    traffic: list[TrafficTarget] = Field(default_factory=list)


class ServiceStatus(KnativeStatus):
    latestCreatedRevisionName: str | None = None
    latestReadyRevisionName: str | None = None
    url: str | None = None
    address: Addressable | None = None
    traffic: list[TrafficTarget] | None = None


class Service(Resource):
    """Knative's Service; core.py has Kubernetes' own."""

    spec: ServiceSpec = Field(default_factory=ServiceSpec)
    status: ServiceStatus = Field(default_factory=ServiceStatus)


class ContainerStatus(ApiModel):
    name: str
    imageDigest: str | None = None


class RevisionStatus(KnativeStatus):
    actualReplicas: int | None = None
    desiredReplicas: int | None = None
    logUrl: str | None = None
    containerStatuses: list[ContainerStatus] = Field(default_factory=list)
    initContainerStatuses: list[ContainerStatus] = Field(default_factory=list)


class Revision(Resource):
    spec: RevisionSpec = Field(default_factory=RevisionSpec)
    status: RevisionStatus = Field(default_factory=RevisionStatus)


class ScaleStatus(ApiModel):
    """What PodAutoscalers and ServerlessServices report, as far as somebody reads it."""

    conditions: list[Condition] = Field(default_factory=list)


class PodAutoscaler(Resource):
    """autoscaling.internal.knative.dev/v1alpha1."""

    status: ScaleStatus = Field(default_factory=ScaleStatus)


class ServerlessService(Resource):
    """networking.internal.knative.dev/v1alpha1."""

    status: ScaleStatus = Field(default_factory=ScaleStatus)


def is_observed(resource: Service | Configuration | Route | Revision) -> bool:
    """Whether the status is about the generation that is stored now."""
    return resource.status.observedGeneration == resource.metadata.generation


def is_ready(resource: Service | Configuration | Route | Revision) -> bool:
    """Whether Ready is True for the generation that is stored now."""
    ready = resource.status.condition("Ready")
    return ready is not None and ready.status == "True" and is_observed(resource)
