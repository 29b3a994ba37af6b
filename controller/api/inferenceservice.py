"""serving.kserve.io/v1beta1 InferenceService: predictor, transformer and explainer, and the status of all of it.

A component's spec is a pod spec with KServe's fields beside it, and a model is a container with KServe's fields beside it, as
in KServe's schema; `pod_spec` and `container` take the two apart again. Legacy framework keys (`sklearn:` …) are read here
and turned into `model` by controller.api.defaulting.
"""

from __future__ import annotations

from typing import Final

from pydantic import Field

from controller.api.core import Container, PodSpec
from controller.api.knative import Addressable, TrafficTarget
from controller.api.meta import ApiModel, Condition, Resource
from controller.base.json import JsonObject

GROUP: Final = "serving.kserve.io"
API_VERSION: Final = "serving.kserve.io/v1beta1"
KIND: Final = "InferenceService"

MODEL_CONTAINER: Final = "kserve-container"
"""The container that answers for the component."""
TRANSFORMER_CONTAINER: Final = "transformer-container"
"""A transformer that lives in the predictor's pod."""
MODEL_DIRECTORY: Final = "/mnt/models"
"""Where a model lies in its pod unless the manifest says otherwise."""

LEGACY_FORMATS: Final = (
    "sklearn", "xgboost", "tensorflow", "pytorch", "triton", "onnx", "huggingface", "pmml", "lightgbm", "paddle",
)  # fmt: skip
"""Keys of a predictor that stand for `model` with this format; KServe's older spelling."""


class ModelFormat(ApiModel):
    name: str = ""
    version: str | None = None


class ModelStorage(ApiModel):
    """A place in a store whose credentials are in a secret."""

    path: str | None = None
    key: str | None = None
    parameters: dict[str, str] | None = None
    schemaPath: str | None = None


class Confidential(ApiModel):
    """A model that is encrypted where it is stored."""

    enabled: bool = False
    resourceId: str | None = None
    """Where the key is: `kbs:///<repo>/<type>/<tag>` of a key broker; None leaves it to the initializer."""


class PredictorExtension(Container):
    """A container, and where its model comes from."""

    storageUri: str | None = None
    runtimeVersion: str | None = None
    """Another tag for the runtime's image."""
    protocolVersion: str | None = None
    """v1, v2, grpc-v1 or grpc-v2."""
    storage: ModelStorage | None = None
    confidential: Confidential | None = None


class ModelSpec(PredictorExtension):
    modelFormat: ModelFormat = Field(default_factory=ModelFormat)
    runtime: str | None = None
    """The name of the runtime to take; None selects one by format."""


class ArtExplainer(PredictorExtension):
    type: str = ""
    config: dict[str, str] = Field(default_factory=dict)


class StorageUri(ApiModel):
    uri: str
    mountPath: str = MODEL_DIRECTORY


class LoggerStorage(ApiModel):
    path: str | None = None
    key: str | None = None
    parameters: dict[str, str] | None = None
    serviceAccountName: str | None = None


class Logger(ApiModel):
    url: str | None = None
    mode: str | None = None
    metadataHeaders: list[str] = Field(default_factory=list)
    metadataAnnotations: list[str] = Field(default_factory=list)
    storage: LoggerStorage | None = None
    marshallerUrl: str | None = None
    batchSize: int | None = None
    batchInterval: str | None = None


class Batcher(ApiModel):
    maxBatchSize: int | None = None
    maxLatency: int | None = None
    """Milliseconds."""
    timeout: int | None = None
    """Seconds."""


class ComponentSpec(PodSpec):
    """What predictor, transformer and explainer have in common: a pod, how it scales and what is put in front of it."""

    minReplicas: int | None = None
    """None reads as 1; 0 scales to zero."""
    maxReplicas: int | None = None
    """None and 0 mean no limit."""
    scaleTarget: int | None = None
    scaleMetric: str | None = None
    containerConcurrency: int | None = None
    timeout: int | None = None
    """Seconds until the first byte of an answer."""
    canaryTrafficPercent: int | None = None
    logger: Logger | None = None
    batcher: Batcher | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    storageUris: list[StorageUri] = Field(default_factory=list)
    autoScaling: JsonObject | None = None
    scaleMetricType: str | None = None
    deploymentStrategy: JsonObject | None = None


class PredictorSpec(ComponentSpec):
    name: str | None = None
    model: ModelSpec | None = None
    storageContainerName: str | None = None
    workerSpec: JsonObject | None = None
    sklearn: PredictorExtension | None = None
    xgboost: PredictorExtension | None = None
    tensorflow: PredictorExtension | None = None
    pytorch: PredictorExtension | None = None
    triton: PredictorExtension | None = None
    onnx: PredictorExtension | None = None
    huggingface: PredictorExtension | None = None
    pmml: PredictorExtension | None = None
    lightgbm: PredictorExtension | None = None
    paddle: PredictorExtension | None = None


class TransformerSpec(ComponentSpec):
    pass


class ExplainerSpec(ComponentSpec):
    art: ArtExplainer | None = None


class InferenceServiceSpec(ApiModel):
    predictor: PredictorSpec = Field(default_factory=PredictorSpec)
    transformer: TransformerSpec | None = None
    explainer: ExplainerSpec | None = None
    canary: list[JsonObject] = Field(default_factory=list)


class ComponentStatus(ApiModel):
    latestReadyRevision: str | None = None
    latestCreatedRevision: str | None = None
    latestRolledoutRevision: str | None = None
    """The newest revision that had all traffic: the stable one while a canary runs."""
    previousRolledoutRevision: str | None = None
    traffic: list[TrafficTarget] | None = None
    url: str | None = None
    address: Addressable | None = None


class ModelStates(ApiModel):
    """Pending, Standby, Loading, Loaded, FailedToLoad, or "" for none; active: what answers, target: what is coming."""

    activeModelState: str = ""
    targetModelState: str = ""


class ModelCopies(ApiModel):
    failedCopies: int = 0
    totalCopies: int | None = None


class FailureInfo(ApiModel):
    reason: str = ""
    message: str = ""
    exitCode: int | None = None
    location: str | None = None
    modelRevisionName: str | None = None
    time: str | None = None


class ModelStatus(ApiModel):
    transitionStatus: str = ""
    """UpToDate, InProgress, BlockedByFailedLoad, InvalidSpec, or "" for none."""
    states: ModelStates | None = None
    copies: ModelCopies | None = None
    lastFailureInfo: FailureInfo | None = None


class InferenceServiceStatus(ApiModel):
    observedGeneration: int | None = None
    conditions: list[Condition] = Field(default_factory=list)
    url: str | None = None
    address: Addressable | None = None
    components: dict[str, ComponentStatus] = Field(default_factory=dict)
    modelStatus: ModelStatus = Field(default_factory=ModelStatus)
    deploymentMode: str | None = None
    servingRuntimeName: str | None = None
    clusterServingRuntimeName: str | None = None

    def condition(self, type_: str) -> Condition | None:
        """The condition of this type, if the status has it."""
        return next((condition for condition in self.conditions if condition.type == type_), None)


class InferenceService(Resource):
    apiVersion: str = API_VERSION
    kind: str = KIND
    spec: InferenceServiceSpec = Field(default_factory=InferenceServiceSpec)
    status: InferenceServiceStatus = Field(default_factory=InferenceServiceStatus)


_COMPONENT_FIELDS: Final = frozenset(
    (set(ComponentSpec.model_fields) | set(PredictorSpec.model_fields) | set(ExplainerSpec.model_fields))
    - set(PodSpec.model_fields)
)
_EXTENSION_FIELDS: Final = frozenset(
    (set(ModelSpec.model_fields) | set(ArtExplainer.model_fields)) - set(Container.model_fields)
)


def pod_spec(component: ComponentSpec) -> PodSpec:
    """The pod spec that stands inside a component's spec, without KServe's fields."""
    return PodSpec.parse({name: value for name, value in component.to_json().items() if name not in _COMPONENT_FIELDS})


def container(extension: PredictorExtension) -> Container:
    """The container that stands inside a model's or explainer's spec, without KServe's fields."""
    return Container.parse(
        {name: value for name, value in extension.to_json().items() if name not in _EXTENSION_FIELDS}
    )
