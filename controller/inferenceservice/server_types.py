"""Model servers that were not made for KServe and need more than their runtime's manifest can say. (pure)

A runtime names its server by the annotation serving.kserve.io/server-type; the table is KServe's (spec/kserve.md 2.4). A new
runtime needs nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from controller.api.core import EnvVar
from controller.api.inferenceservice import MODEL_DIRECTORY

_MODEL_CLASSES: Final[Mapping[str, str]] = {
    "sklearn": "mlserver_sklearn.SKLearnModel",
    "xgboost": "mlserver_xgboost.XGBoostModel",
    "lightgbm": "mlserver_lightgbm.LightGBMModel",
    "mlflow": "mlserver_mlflow.MLflowRuntime",
}
_GPU_TAGGED: Final = frozenset({"tensorflow-serving", "torchserve", "huggingfaceserver"})
"""Servers whose image for GPUs is the tag with `-gpu`."""
_CPU_NAMED: Final = frozenset({"vllmserver"})
"""Servers whose image for CPUs is the name with `-cpu`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerDefaults:
    """What a server type adds to the service's labels and to its container."""

    labels: Mapping[str, str]
    env: tuple[EnvVar, ...] = ()
    args: tuple[str, ...] = ()


def server_defaults(
    server_type: str, *, service_name: str, model_format: str, protocol: str, has_storage: bool
) -> ServerDefaults:
    """What a server of this type needs for this model."""
    match server_type:
        case "mlserver":
            model_class = _MODEL_CLASSES.get(model_format)
            env = [EnvVar(name="MLSERVER_MODEL_NAME", value=service_name)]
            if has_storage:
                env.append(EnvVar(name="MLSERVER_MODEL_URI", value=MODEL_DIRECTORY))
            else:
                env = [EnvVar(name="MLSERVER_LOAD_MODELS_AT_STARTUP", value="false")]
            return ServerDefaults(labels={"modelClass": model_class} if model_class else {}, env=tuple(env))
        case "torchserve":
            envelope = "kservev2" if protocol == "v2" else "kserve"
            return ServerDefaults(
                labels={"serviceEnvelope": envelope}, env=(EnvVar(name="PROTOCOL_VERSION", value=protocol),)
            )
        case "tritonserver" if not has_storage:
            return ServerDefaults(labels={}, args=("--model-control-mode=explicit",))
    return ServerDefaults(labels={})


def image_of(image: str, *, server_type: str, runtime_version: str | None, uses_gpu: bool) -> str:
    """The image to run: another tag where the manifest names one, else the variant for the hardware.

    >>> image_of("a/b:1", server_type="", runtime_version="2", uses_gpu=False)
    'a/b:2'
    """
    if "@" in image:  # A digest says exactly what runs.
        return image
    # A colon before the last slash belongs to the registry's port.
    repository, colon, tag = image.rpartition(":")
    if not colon or "/" in tag:
        repository, tag = image, ""
    if runtime_version:
        return f"{repository}:{runtime_version}"
    if uses_gpu and server_type in _GPU_TAGGED and tag and not tag.endswith("-gpu"):
        return f"{repository}:{tag}-gpu"
    if not uses_gpu and server_type in _CPU_NAMED and not repository.endswith("-cpu"):
        return f"{repository}-cpu:{tag}" if tag else f"{repository}-cpu"
    return image
