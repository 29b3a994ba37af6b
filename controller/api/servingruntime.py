"""serving.kserve.io/v1alpha1: ServingRuntime, ClusterServingRuntime and ClusterStorageContainer.

A runtime says which model formats it serves and how its pod looks; a storage container says which URIs it can fetch.
ModelMesh's fields ride along unread.
"""

from __future__ import annotations

from typing import Final

from pydantic import Field

from controller.api.core import Container, ObjectRef, Volume
from controller.api.meta import ApiModel, Resource
from controller.base.json import JsonObject

API_VERSION: Final = "serving.kserve.io/v1alpha1"
KIND: Final = "ServingRuntime"
CLUSTER_KIND: Final = "ClusterServingRuntime"

SERVER_TYPE_ANNOTATION: Final = "serving.kserve.io/server-type"
MISSING_ANNOTATION: Final = "ladle.dev/missing"
"""Says, format by format, what to do instead where a runtime's server cannot run: `FORMAT: TEXT` lines, `*` for all formats.
Ours, on the runtimes that one machine knows by name only."""
PROTOCOL_RANKS: Final = {"v1": 1, "v2": 2, "grpc-v1": 3, "grpc-v2": 4}
"""KServe's order of preference where a runtime speaks several protocols; the lowest wins."""


class SupportedModelFormat(ApiModel):
    name: str
    version: str | None = None
    autoSelect: bool = False
    priority: int | None = None
    """The larger is taken first; entries without come last."""


class ServingRuntimeSpec(ApiModel):
    supportedModelFormats: list[SupportedModelFormat] = Field(default_factory=list)
    protocolVersions: list[str] = Field(default_factory=list)
    """Empty means any."""
    multiModel: bool = False
    disabled: bool = False
    containers: list[Container] = Field(default_factory=list)
    volumes: list[Volume] = Field(default_factory=list)
    nodeSelector: dict[str, str] = Field(default_factory=dict)
    tolerations: list[JsonObject] = Field(default_factory=list)
    affinity: JsonObject | None = None
    imagePullSecrets: list[ObjectRef] = Field(default_factory=list)
    schedulerName: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    workerSpec: JsonObject | None = None


class ServingRuntime(Resource):
    """A runtime of one namespace, or of the cluster: `kind` says which."""

    spec: ServingRuntimeSpec = Field(default_factory=ServingRuntimeSpec)

    @property
    def is_cluster_wide(self) -> bool:
        return self.kind == CLUSTER_KIND

    @property
    def server_type(self) -> str:
        """What kind of server this is, for defaults that only such servers need; "" if it does not say."""
        return self.metadata.annotations.get(SERVER_TYPE_ANNOTATION, "")

    def missing_for(self, format_name: str) -> str:
        """What to do instead where the server cannot run models of this format here; "" where it can."""
        lines = self.metadata.annotations.get(MISSING_ANNOTATION, "").splitlines()
        said = {name.strip(): text.strip() for name, _, text in (line.partition(":") for line in lines)}
        return said.get(format_name) or said.get("*", "")

    def lowest_protocol(self) -> str | None:
        """The protocol that stands for this runtime where a model asks for none; None if the runtime names none."""
        return min(self.spec.protocolVersions, key=lambda name: PROTOCOL_RANKS.get(name, _UNKNOWN_RANK), default=None)


_UNKNOWN_RANK: Final = max(PROTOCOL_RANKS.values()) + 1


class UriFormat(ApiModel):
    """URIs that start with `prefix` or, where that is unset, match `regex` from their start."""

    prefix: str | None = None
    regex: str | None = None


class StorageContainerSpec(ApiModel):
    container: Container = Field(default_factory=Container)
    supportedUriFormats: list[UriFormat] = Field(default_factory=list)
    workloadType: str = "initContainer"
    supportsMultiModelDownload: bool = False


class ClusterStorageContainer(Resource):
    spec: StorageContainerSpec = Field(default_factory=StorageContainerSpec)
    disabled: bool = False
