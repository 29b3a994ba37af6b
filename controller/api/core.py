"""Kubernetes' own kinds as types: the fields that somebody in this project reads; everything else rides along unread.

Pods and what they consist of, Deployments, Services with their Endpoints, ConfigMaps and Secrets. Fields that the API server
fills in read here as its default where the meaning is fixed (a port's protocol), as None where a reader decides.
"""

from __future__ import annotations

from typing import TypeAlias

from pydantic import Field

from controller.api.meta import ApiModel, Condition, ObjectMeta, Resource

Quantity: TypeAlias = str | int | float
"""`100m`, `2Gi` or a bare number, as written; controller.reconcile.diff.parse_quantity reads it."""
PortOrName: TypeAlias = int | str
"""A port number, or the name of a container's port."""


# What containers consist of.


class KeySelector(ApiModel):
    """One key of a ConfigMap or Secret."""

    name: str = ""
    key: str
    optional: bool = False


class FieldSelector(ApiModel):
    fieldPath: str
    apiVersion: str | None = None


class ResourceFieldSelector(ApiModel):
    resource: str
    containerName: str = ""
    divisor: Quantity | None = None


class EnvVarSource(ApiModel):
    """Exactly one is set."""

    fieldRef: FieldSelector | None = None
    resourceFieldRef: ResourceFieldSelector | None = None
    configMapKeyRef: KeySelector | None = None
    secretKeyRef: KeySelector | None = None


class EnvVar(ApiModel):
    name: str
    value: str | None = None
    valueFrom: EnvVarSource | None = None


class ObjectRef(ApiModel):
    """The name of a ConfigMap, Secret or ServiceAccount in the same namespace."""

    name: str = ""
    optional: bool = False


class EnvFromSource(ApiModel):
    prefix: str = ""
    configMapRef: ObjectRef | None = None
    secretRef: ObjectRef | None = None


class ContainerPort(ApiModel):
    containerPort: int
    name: str = ""
    protocol: str = "TCP"


class ResourceRequirements(ApiModel):
    requests: dict[str, Quantity] = Field(default_factory=dict)
    limits: dict[str, Quantity] = Field(default_factory=dict)


class VolumeMount(ApiModel):
    name: str
    mountPath: str
    subPath: str = ""
    readOnly: bool = False


class HttpHeader(ApiModel):
    name: str
    value: str = ""


class HttpGetAction(ApiModel):
    port: PortOrName = 0
    """0 is the port that the container serves on; Knative fills it in."""
    path: str = "/"
    host: str = ""
    scheme: str = "HTTP"
    httpHeaders: list[HttpHeader] = Field(default_factory=list)


class TcpSocketAction(ApiModel):
    port: PortOrName = 0
    host: str = ""


class GrpcAction(ApiModel):
    port: int
    service: str | None = None


class ExecAction(ApiModel):
    command: list[str] = Field(default_factory=list)


class Probe(ApiModel):
    """One of the four actions; times in whole seconds, with Kubernetes' defaults."""

    httpGet: HttpGetAction | None = None
    tcpSocket: TcpSocketAction | None = None
    grpc: GrpcAction | None = None
    exec: ExecAction | None = None
    initialDelaySeconds: int = 0
    timeoutSeconds: int = 1
    periodSeconds: int = 10
    successThreshold: int = 1
    failureThreshold: int = 3


class LifecycleHandler(ApiModel):
    httpGet: HttpGetAction | None = None
    exec: ExecAction | None = None


class Lifecycle(ApiModel):
    preStop: LifecycleHandler | None = None
    postStart: LifecycleHandler | None = None


class Container(ApiModel):
    name: str = ""
    image: str = ""
    command: list[str] = Field(default_factory=list)
    args: list[str] = Field(default_factory=list)
    workingDir: str = ""
    env: list[EnvVar] = Field(default_factory=list)
    envFrom: list[EnvFromSource] = Field(default_factory=list)
    ports: list[ContainerPort] = Field(default_factory=list)
    resources: ResourceRequirements = Field(default_factory=ResourceRequirements)
    volumeMounts: list[VolumeMount] = Field(default_factory=list)
    readinessProbe: Probe | None = None
    livenessProbe: Probe | None = None
    startupProbe: Probe | None = None
    lifecycle: Lifecycle | None = None
    imagePullPolicy: str | None = None
    terminationMessagePath: str = "/dev/termination-log"
    terminationMessagePolicy: str = "File"
    restartPolicy: str | None = None
    """`Always` on an init container makes it a sidecar; None otherwise."""


# Volumes.


class KeyToPath(ApiModel):
    key: str
    path: str
    mode: int | None = None


class EmptyDirSource(ApiModel):
    medium: str = ""
    sizeLimit: Quantity | None = None


class ConfigMapSource(ApiModel):
    name: str = ""
    items: list[KeyToPath] = Field(default_factory=list)
    defaultMode: int | None = None
    optional: bool = False


class SecretSource(ApiModel):
    secretName: str = ""
    items: list[KeyToPath] = Field(default_factory=list)
    defaultMode: int | None = None
    optional: bool = False


class SecretProjection(ApiModel):
    name: str = ""
    items: list[KeyToPath] = Field(default_factory=list)
    optional: bool = False


class DownwardApiItem(ApiModel):
    path: str
    fieldRef: FieldSelector | None = None
    resourceFieldRef: ResourceFieldSelector | None = None
    mode: int | None = None


class DownwardApiSource(ApiModel):
    items: list[DownwardApiItem] = Field(default_factory=list)
    defaultMode: int | None = None


class ServiceAccountTokenProjection(ApiModel):
    path: str
    audience: str = ""
    expirationSeconds: int | None = None


class VolumeProjection(ApiModel):
    configMap: ConfigMapSource | None = None
    secret: SecretProjection | None = None
    downwardAPI: DownwardApiSource | None = None
    serviceAccountToken: ServiceAccountTokenProjection | None = None


class ProjectedSource(ApiModel):
    sources: list[VolumeProjection] = Field(default_factory=list)
    defaultMode: int | None = None


class HostPathSource(ApiModel):
    path: str
    type: str = ""


class PersistentVolumeClaimSource(ApiModel):
    claimName: str
    readOnly: bool = False


class Volume(ApiModel):
    """A name and one source; a source that is not named here is in the extra fields."""

    name: str
    emptyDir: EmptyDirSource | None = None
    configMap: ConfigMapSource | None = None
    secret: SecretSource | None = None
    projected: ProjectedSource | None = None
    downwardAPI: DownwardApiSource | None = None
    hostPath: HostPathSource | None = None
    persistentVolumeClaim: PersistentVolumeClaimSource | None = None


# Pods.


class PodSpec(ApiModel):
    containers: list[Container] = Field(default_factory=list)
    initContainers: list[Container] = Field(default_factory=list)
    volumes: list[Volume] = Field(default_factory=list)
    nodeName: str = ""
    nodeSelector: dict[str, str] = Field(default_factory=dict)
    serviceAccountName: str = ""
    automountServiceAccountToken: bool | None = None
    restartPolicy: str = "Always"
    terminationGracePeriodSeconds: int | None = None
    imagePullSecrets: list[ObjectRef] = Field(default_factory=list)
    hostname: str = ""
    subdomain: str = ""


class PodTemplateSpec(ApiModel):
    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
    spec: PodSpec = Field(default_factory=PodSpec)


class ContainerStateWaiting(ApiModel):
    reason: str = ""
    message: str = ""


class ContainerStateRunning(ApiModel):
    startedAt: str | None = None


class ContainerStateTerminated(ApiModel):
    exitCode: int = 0
    signal: int | None = None
    reason: str = ""
    message: str = ""
    startedAt: str | None = None
    finishedAt: str | None = None
    containerID: str = ""


class ContainerState(ApiModel):
    """At most one is set; none means waiting."""

    waiting: ContainerStateWaiting | None = None
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None


class ContainerStatus(ApiModel):
    name: str
    ready: bool = False
    started: bool | None = None
    restartCount: int = 0
    state: ContainerState = Field(default_factory=ContainerState)
    lastState: ContainerState = Field(default_factory=ContainerState)
    image: str = ""
    imageID: str = ""
    containerID: str = ""


class PodStatus(ApiModel):
    phase: str = ""
    """Pending, Running, Succeeded, Failed or Unknown."""
    conditions: list[Condition] = Field(default_factory=list)
    reason: str = ""
    message: str = ""
    hostIP: str = ""
    podIP: str = ""
    startTime: str | None = None
    initContainerStatuses: list[ContainerStatus] = Field(default_factory=list)
    containerStatuses: list[ContainerStatus] = Field(default_factory=list)

    def condition(self, type_: str) -> Condition | None:
        """The condition of this type, if the status has it."""
        return next((condition for condition in self.conditions if condition.type == type_), None)


class Pod(Resource):
    apiVersion: str = "v1"
    kind: str = "Pod"
    spec: PodSpec = Field(default_factory=PodSpec)
    status: PodStatus = Field(default_factory=PodStatus)

    @property
    def is_ready(self) -> bool:
        """Whether the pod is Ready and not on its way out."""
        ready = self.status.condition("Ready")
        return ready is not None and ready.status == "True" and self.metadata.deletionTimestamp is None


# Deployments.


class LabelSelectorRequirement(ApiModel):
    key: str
    operator: str
    values: list[str] = Field(default_factory=list)


class LabelSelector(ApiModel):
    matchLabels: dict[str, str] = Field(default_factory=dict)
    matchExpressions: list[LabelSelectorRequirement] = Field(default_factory=list)


class RollingUpdate(ApiModel):
    maxSurge: PortOrName | None = None
    maxUnavailable: PortOrName | None = None


class DeploymentStrategy(ApiModel):
    type: str = "RollingUpdate"
    rollingUpdate: RollingUpdate | None = None


class DeploymentSpec(ApiModel):
    replicas: int | None = None
    """None reads as 1."""
    selector: LabelSelector = Field(default_factory=LabelSelector)
    template: PodTemplateSpec = Field(default_factory=PodTemplateSpec)
    strategy: DeploymentStrategy = Field(default_factory=DeploymentStrategy)
    minReadySeconds: int = 0
    paused: bool = False
    progressDeadlineSeconds: int = 600
    revisionHistoryLimit: int | None = None


class DeploymentStatus(ApiModel):
    observedGeneration: int = 0
    replicas: int = 0
    updatedReplicas: int = 0
    readyReplicas: int = 0
    availableReplicas: int = 0
    unavailableReplicas: int = 0
    conditions: list[Condition] = Field(default_factory=list)

    def condition(self, type_: str) -> Condition | None:
        """The condition of this type, if the status has it."""
        return next((condition for condition in self.conditions if condition.type == type_), None)


class Deployment(Resource):
    apiVersion: str = "apps/v1"
    kind: str = "Deployment"
    spec: DeploymentSpec = Field(default_factory=DeploymentSpec)
    status: DeploymentStatus = Field(default_factory=DeploymentStatus)


# Services and Endpoints.


class ServicePort(ApiModel):
    port: int
    name: str = ""
    protocol: str = "TCP"
    targetPort: PortOrName | None = None
    """None reads as `port`."""
    appProtocol: str | None = None
    nodePort: int | None = None


class ServiceSpec(ApiModel):
    type: str = "ClusterIP"
    ports: list[ServicePort] = Field(default_factory=list)
    selector: dict[str, str] = Field(default_factory=dict)
    clusterIP: str = ""
    externalName: str = ""
    sessionAffinity: str = "None"
    publishNotReadyAddresses: bool = False


class Service(Resource):
    """Kubernetes' Service; knative.py has Knative's."""

    apiVersion: str = "v1"
    kind: str = "Service"
    spec: ServiceSpec = Field(default_factory=ServiceSpec)


class TargetRef(ApiModel):
    kind: str = ""
    name: str = ""
    namespace: str = ""
    uid: str = ""


class EndpointAddress(ApiModel):
    ip: str
    hostname: str = ""
    nodeName: str | None = None
    targetRef: TargetRef | None = None


class EndpointPort(ApiModel):
    port: int
    name: str = ""
    protocol: str = "TCP"
    appProtocol: str | None = None


class EndpointSubset(ApiModel):
    """Every address serves every port."""

    addresses: list[EndpointAddress] = Field(default_factory=list)
    notReadyAddresses: list[EndpointAddress] = Field(default_factory=list)
    ports: list[EndpointPort] = Field(default_factory=list)


class Endpoints(Resource):
    apiVersion: str = "v1"
    kind: str = "Endpoints"
    subsets: list[EndpointSubset] = Field(default_factory=list)


# Data and identity.


class ConfigMap(Resource):
    apiVersion: str = "v1"
    kind: str = "ConfigMap"
    data: dict[str, str] = Field(default_factory=dict)
    binaryData: dict[str, str] = Field(default_factory=dict)
    """Values in base64."""


class Secret(Resource):
    apiVersion: str = "v1"
    kind: str = "Secret"
    type: str = "Opaque"
    data: dict[str, str] = Field(default_factory=dict)
    """Values in base64."""


class ServiceAccount(Resource):
    apiVersion: str = "v1"
    kind: str = "ServiceAccount"
    secrets: list[ObjectRef] = Field(default_factory=list)
    imagePullSecrets: list[ObjectRef] = Field(default_factory=list)
