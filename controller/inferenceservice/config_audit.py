"""Which settings of inferenceservice-config do something here, and which do not: nobody waits for an idle one. (pure)

Every setting that KServe has stands in one of two tables. One that is in neither is a typing error, or newer than this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from controller.api.config_text import section_of

_RESOURCES: Final = ("memoryRequest", "memoryLimit", "cpuRequest", "cpuLimit")

HONOURED: Final[Mapping[str, tuple[str, ...]]] = {
    "explainers": ("art.image", "art.defaultImageVersion"),
    "storageInitializer": ("image", *_RESOURCES, "caBundleConfigMapName", "caBundleVolumeMountPath"),
    "credentials": (
        "storageSpecSecretName", "storageSecretNameAnnotation", "gcs.gcsCredentialFileName", "s3.s3AccessKeyIDName",
        "s3.s3SecretAccessKeyName", "s3.s3Endpoint", "s3.s3UseHttps", "s3.s3Region", "s3.s3VerifySSL", "s3.s3UseVirtualBucket",
        "s3.s3UseAccelerate", "s3.s3UseAnonymousCredential", "s3.s3CABundleConfigMap", "s3.s3CABundle",
    ),
    "ingress": (
        "ingressGateway", "knativeLocalGatewayService", "localGateway", "localGatewayService", "ingressDomain",
        "additionalIngressDomains", "urlScheme", "disableIstioVirtualHost", "pathTemplate", "awaitReconciledVirtualService",
    ),
    "logger": ("defaultUrl", "caBundle", "caCertFile", "tlsSkipVerify", "marshallerUrl", "batchSize", "batchInterval"),
    "agent": ("image", *_RESOURCES),
    "deploy": ("defaultDeploymentMode",),
    "metricsAggregator": ("enablePrometheusScraping",),
    "security": ("autoMountServiceAccountToken",),
    "inferenceService": (
        *(f"resource.{name}" for name in _RESOURCES), "serviceAnnotationDisallowedList", "serviceLabelDisallowedList",
    ),
    "multiNode": ("customGPUResourceTypeList",),
}  # fmt: skip
"""Settings by key of the config map; those of a nested object with its name and a dot."""

_STANDARD: Final = "only services of deployment mode Standard have it, which is not supported yet"
_IMAGES: Final = "models in images (oci://) are not supported yet"
_CACHES: Final = "model caches (LocalModelCache) are not supported yet"
_AGENT: Final = "the agent batches and logs with the image and resources of key agent, in KServe too"


@dataclass(frozen=True, slots=True)
class Idle:
    """A setting that nothing here reads: KServe's value, by which all is as if it were read, and why."""

    shipped: object
    why: str


def _idle(why: str, **shipped: object) -> dict[str, Idle]:
    return {name: Idle(value, why) for name, value in shipped.items()}


_AMOUNTS: Final = {"memoryRequest": "100Mi", "memoryLimit": "1Gi", "cpuRequest": "100m", "cpuLimit": "1"}

WITHOUT_EFFECT: Final[Mapping[str, Mapping[str, Idle]]] = {
    "storageInitializer": _idle(
        _IMAGES,
        enableModelcar=True, cpuModelcar="10m", memoryModelcar="15Mi", uidModelcar=1010, enableOciModelSupport=False,
        ociModelMode="", ociInsecureRegistry=False,
    ),
    "ingress": {
        **_idle(
            _STANDARD,
            enableGatewayApi=False, kserveIngressGateway="kserve/kserve-ingress-gateway", ingressClassName="istio",
            domainTemplate="{{ .Name }}-{{ .Namespace }}.{{ .IngressDomain }}", disableIngressCreation=False,
            disableHTTPRouteTimeout=False,
        ),
        **_idle(
            "LLMInferenceServices are not supported yet",
            enableLLMInferenceServiceTLS=False, modelBasedRoutingHeaderName="X-Gateway-Model-Name",
            modelBasedRoutingMode="enabled",
        ),
    },
    "logger": {
        **_idle(_AGENT, image="kserve/agent:latest", **_AMOUNTS),
        **_idle("a component says itself where its logger stores: logger.storage", storage=None),
    },
    "batcher": {
        **_idle(_AGENT, image="kserve/agent:latest", memoryRequest="1Gi", memoryLimit="1Gi", cpuRequest="1", cpuLimit="1"),
        **_idle("a component says itself: batcher.maxBatchSize, batcher.maxLatency", maxBatchSize="32", maxLatency="5000"),
    },
    "router": _idle(
        "InferenceGraphs are not routed yet",
        image="kserve/router:latest", **_AMOUNTS, imagePullPolicy="IfNotPresent", imagePullSecrets=[],
        **{"headers.propagate": []},
    ),
    "deploy": _idle(
        _STANDARD,
        **{
            "deploymentRolloutStrategy.defaultRollout.maxSurge": "",
            "deploymentRolloutStrategy.defaultRollout.maxUnavailable": "",
        },
    ),
    "metricsAggregator": _idle(
        "metrics are aggregated by KServe's pod webhook and queue-proxy image; scrape the containers' own port",
        enableMetricAggregation="false",
    ),
    "localModel": _idle(
        _CACHES,
        enabled=False, jobNamespace="kserve-localmodel-jobs", defaultJobImage="kserve/storage-initializer:latest",
        fsGroup=1000, jobTTLSecondsAfterFinished=3600, reconcilationFrequencyInSecs=60, disableVolumeManagement=False,
    ),
    "service": _idle(_STANDARD, serviceClusterIPNone=False),
    "opentelemetryCollector": _idle(
        _STANDARD,
        scrapeInterval="5s", metricReceiverEndpoint="keda-otel-scaler.keda.svc:4317",
        metricScalerEndpoint="keda-otel-scaler.keda.svc:4318",
        **{"resource.cpuLimit": "1", "resource.memoryLimit": "2Gi", "resource.cpuRequest": "200m",
           "resource.memoryRequest": "512Mi"},
    ),
    "autoscaler": _idle(
        _STANDARD, scaleUpStabilizationWindowSeconds="0", scaleDownStabilizationWindowSeconds="300",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleSetting:
    """A setting of a config map that changes nothing here."""

    name: str
    """Key of the map and path in its JSON: `ingress.enableGatewayApi`."""
    value: object
    why: str

    def __str__(self) -> str:
        return f"{self.name} = {self.value!r} has no effect: {self.why}"


def idle_settings(data: Mapping[str, str]) -> tuple[IdleSetting, ...]:
    """What stands in inferenceservice-config, is not what KServe ships, and changes nothing; UserError where it is no JSON."""
    found: list[IdleSetting] = []
    for key in data:
        if key.startswith("_"):  # The commented example that KServe ships.
            continue
        known = set(HONOURED.get(key, ()))
        idle = WITHOUT_EFFECT.get(key, {})
        if not known and not idle:
            found.append(IdleSetting(name=key, value="…", why="KServe has no such key"))
            continue
        for name, value in _leaves(section_of(data, key), known | set(idle)):
            if name in idle and value != idle[name].shipped:
                found.append(IdleSetting(name=f"{key}.{name}", value=value, why=idle[name].why))
            elif name not in idle and name not in known:
                found.append(IdleSetting(name=f"{key}.{name}", value=value, why="KServe has no such setting"))
    return tuple(found)


def _leaves(section: Mapping[str, Any], known: set[str], prefix: str = "") -> Iterator[tuple[str, object]]:
    """The settings of a section by their paths; an object that is itself a setting stays whole."""
    for name, value in section.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict) and path not in known:
            yield from _leaves(value, known, f"{path}.")
        else:
            yield path, value
