"""What runs in a component's pod, before the model's storage is added: containers, their arguments and environment. (pure)

A predictor with a model is its runtime's pod with the manifest's laid over it; a custom predictor, a transformer and an
explainer are the manifest's own containers with what KServe adds to them (spec/kserve.md 2.4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from controller.api.core import Container, EnvVar, PodSpec
from controller.api.defaulting import MODEL_FORMAT_ANNOTATION
from controller.api.inferenceservice import (
    MODEL_CONTAINER,
    MODEL_DIRECTORY,
    TRANSFORMER_CONTAINER,
    ArtExplainer,
    ExplainerSpec,
    InferenceService,
    ModelSpec,
    container,
    pod_spec,
)
from controller.api.meta import ObjectMeta
from controller.api.servingruntime import ServingRuntime
from controller.base.errors import UserError
from controller.inferenceservice.components import Component, ComponentKind
from controller.inferenceservice.config import Settings
from controller.inferenceservice.placeholders import render
from controller.inferenceservice.runtimes import RuntimeChoice
from controller.inferenceservice.server_types import ServerDefaults, image_of, server_defaults
from controller.inferenceservice.strategic_merge import merge_containers, merge_pods

HTTP_PORT: Final = 8080
"""Where KServe's servers listen."""
SERVICE_NAME_ENV: Final = "INFERENCE_SERVICE_NAME"
_RUNTIME_POD_FIELDS: Final = (
    "nodeSelector", "affinity", "tolerations", "volumes", "imagePullSecrets", "schedulerName", "resourceClaims",
)  # fmt: skip
"""Fields of a runtime that belong to its pod; the others are about the runtime itself."""
_GPU_RESOURCES: Final = ("nvidia.com/gpu", "nvidia.com/mig", "amd.com/gpu", "intel.com/gpu", "habana.ai/gaudi")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A pod, and the labels and annotations that come with it."""

    pod: PodSpec
    labels: Mapping[str, str] = field(default_factory=dict)
    """What the runtime says; the service's own come over it."""
    annotations: Mapping[str, str] = field(default_factory=dict)


def build_model_pod(service: InferenceService, choice: RuntimeChoice, *, has_storage: bool) -> Workload:
    """The pod of a predictor whose runtime is `choice`."""
    predictor, model = service.spec.predictor, service.spec.predictor.model
    assert model is not None, "only a predictor with a model has a runtime"
    runtime = choice.runtime
    defaults = _defaults_of(service, choice, has_storage=has_storage)
    main = _model_container(model, runtime, defaults)
    own = pod_spec(predictor)
    base = PodSpec.parse({n: v for n, v in runtime.spec.to_json().items() if n in _RUNTIME_POD_FIELDS})
    containers = [main, *_side_containers(runtime, own)]
    meta = _with_format(service.metadata, model)
    rendered = [Container.parse(render(item.to_json(), meta)) for item in containers]
    pod = merge_pods(base, own).replace(containers=[_with_env(item, service.metadata.name) for item in rendered])
    return Workload(pod=pod, labels=runtime.spec.labels, annotations=runtime.spec.annotations)


def service_with_server_labels(
    service: InferenceService, choice: RuntimeChoice, *, has_storage: bool
) -> InferenceService:
    """The service with the labels that its server's type needs; placeholders read them and all children carry them."""
    labels = _defaults_of(service, choice, has_storage=has_storage).labels
    if not labels:
        return service
    meta: ObjectMeta = service.metadata.replace(labels={**service.metadata.labels, **labels})
    return service.replace(metadata=meta)


def _with_format(meta: ObjectMeta, model: ModelSpec) -> ObjectMeta:
    """Metadata for placeholders, with the format that the spec says: admission writes the annotation once and never again."""
    return meta.replace(annotations={**meta.annotations, MODEL_FORMAT_ANNOTATION: model.modelFormat.name})


def build_custom_pod(component: Component) -> Workload:
    """The pod of a component whose containers stand in the manifest."""
    own = pod_spec(component.spec)
    containers = _main_first(own.containers)
    if component.kind is not ComponentKind.PREDICTOR:
        containers = [_with_args(containers[0], _service_args(component)), *containers[1:]]
    if component.kind is not ComponentKind.EXPLAINER:  # KServe's explainers do not get it.
        containers = [_with_env(item, component.service_name) for item in containers]
    return Workload(pod=own.replace(containers=containers))


def build_art_pod(component: Component, art: ArtExplainer, settings: Settings) -> Workload:
    """The pod of an explainer of the Adversarial Robustness Toolbox."""
    assert isinstance(component.spec, ExplainerSpec)
    own = container(art)
    name, host = _service_args(component)["--model_name"], _service_args(component)["--predictor_host"]
    args = ["--model_name", name, "--http_port", str(HTTP_PORT), "--predictor_host", host]
    if component.spec.containerConcurrency is not None:
        args += ["--workers", str(component.spec.containerConcurrency)]
    if art.storageUri:
        args += ["--storage_uri", MODEL_DIRECTORY]
    args += ["--adversary_type", art.type]
    for key in sorted(art.config):
        args += [f"--{key}", art.config[key]]
    image = own.image or f"{settings.art_image}:{art.runtimeVersion or settings.defaults.art_image_version}"
    main = own.replace(image=image, args=[*args, *own.args], name=MODEL_CONTAINER)
    return Workload(pod=pod_spec(component.spec).replace(containers=[main]))


def _defaults_of(service: InferenceService, choice: RuntimeChoice, *, has_storage: bool) -> ServerDefaults:
    model = service.spec.predictor.model
    assert model is not None
    return server_defaults(
        choice.runtime.server_type,
        service_name=service.metadata.name,
        model_format=model.modelFormat.name,
        protocol=choice.protocol,
        has_storage=has_storage,
    )


def _model_container(model: ModelSpec, runtime: ServingRuntime, defaults: ServerDefaults) -> Container:
    base = next((item for item in runtime.spec.containers if item.name == MODEL_CONTAINER), None)
    if base is None:
        message = f"{runtime.kind} {runtime.metadata.name} has no container {MODEL_CONTAINER}"
        raise UserError("InvalidPredictorSpec", message)
    upper = container(model)
    if defaults.env:
        given = {variable.name for variable in upper.env}
        added = [variable for variable in defaults.env if variable.name not in given]
        upper = upper.replace(env=[*added, *upper.env])
    merged = merge_containers(base, upper)
    image = image_of(
        merged.image,
        server_type=runtime.server_type,
        runtime_version=model.runtimeVersion,
        uses_gpu=_uses_gpu(merged),
    )
    changes = {"image": image} if image else {}
    missing = [argument for argument in defaults.args if argument not in merged.args]
    if missing:
        return merged.replace(**changes, args=[*merged.args, *missing])
    return merged.replace(**changes)


def _uses_gpu(item: Container) -> bool:
    names = (*item.resources.limits, *item.resources.requests)
    return any(name.startswith(_GPU_RESOURCES) for name in names)


def _side_containers(runtime: ServingRuntime, own: PodSpec) -> list[Container]:
    """All but the model's container: the transformer first, then the runtime's others, then the manifest's."""
    from_runtime = {item.name: item for item in runtime.spec.containers if item.name != MODEL_CONTAINER}
    from_manifest = {item.name: item for item in own.containers if item.name != MODEL_CONTAINER}
    merged = {
        name: merge_containers(item, from_manifest[name]) if name in from_manifest else item
        for name, item in from_runtime.items()
    }
    merged |= {name: item for name, item in from_manifest.items() if name not in from_runtime}
    return sorted(merged.values(), key=lambda item: item.name != TRANSFORMER_CONTAINER)


def _main_first(containers: Sequence[Container]) -> list[Container]:
    main = next((item for item in containers if item.name == MODEL_CONTAINER), containers[0])
    return [main, *(item for item in containers if item is not main)]


def _service_args(component: Component) -> Mapping[str, str]:
    """The flags by which a transformer or explainer finds its model and its port."""
    predictor = f"{component.service_name}-{ComponentKind.PREDICTOR}"
    if component.predictor_name:
        predictor = f"{component.service_name}-{component.predictor_name}-{ComponentKind.PREDICTOR}"
    flags = {
        "--model_name": component.service_name,
        "--predictor_host": f"{predictor}.{component.namespace}",
        "--http_port": str(HTTP_PORT),
    }
    if component.spec.containerConcurrency is not None:
        flags["--workers"] = str(component.spec.containerConcurrency)
    return flags


def _with_args(item: Container, flags: Mapping[str, str]) -> Container:
    """The container with those flags that its arguments do not have."""
    given = {word.partition("=")[0] for word in item.args}
    added = [word for flag, value in flags.items() if flag not in given for word in (flag, value)]
    return item.replace(args=[*item.args, *added]) if added else item


def _with_env(item: Container, service_name: str) -> Container:
    variable = EnvVar(name=SERVICE_NAME_ENV, value=service_name)
    if any(known.name == SERVICE_NAME_ENV for known in item.env):
        return item.replace(env=[variable if known.name == SERVICE_NAME_ENV else known for known in item.env])
    return item.replace(env=[*item.env, variable])
