"""The settings that the InferenceService controller works by, read from KServe's and Knative's config maps. (pure)

A map or key that is absent has the value that KServe ships; one that cannot be read is an error that blocks every service,
because guessing could tear down what runs. Keys that no part of Ladle acts on are told apart in config_audit.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from controller.api.config_text import invalid_config, parse_defaults, section_of, strings_of
from controller.api.core import ConfigMap
from controller.api.defaulting import SHIPPED, Defaults
from controller.base.json import JsonObject
from controller.inferenceservice.config_audit import IdleSetting, idle_settings

KNATIVE_CONFIG_NAMES: Final = ("config-domain", "config-features", "config-autoscaler")

_ANNOTATIONS_DISALLOWED: Final = (
    "autoscaling.knative.dev/min-scale",
    "autoscaling.knative.dev/max-scale",
    "internal.serving.kserve.io/storage-initializer-sourceuri",
    "kubectl.kubernetes.io/last-applied-configuration",
    "modelFormat",
)
"""Annotations of a service that are not passed on to its revisions; KServe's list."""
_LABELS_DISALLOWED: Final = ("networking.knative.dev/visibility",)
"""Labels of a service that its revisions do not get; KServe's list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressSettings:
    ingress_gateway: str = "knative-serving/knative-ingress-gateway"
    """Where requests from outside arrive: namespace/name of an Istio Gateway."""
    local_gateway: str = "knative-serving/knative-local-gateway"
    """Where requests from inside the cluster arrive."""
    local_gateway_service: str = "knative-local-gateway.istio-system.svc.cluster.local"
    """The host that a service's cluster-local name points to."""
    knative_local_gateway_service: str = "knative-local-gateway.istio-system.svc.cluster.local"
    """The host that serves Knative's routes."""
    ingress_domain: str = "example.com"
    """The host of all path-based URLs; unused without `path_template`."""
    additional_ingress_domains: tuple[str, ...] = ()
    """Domains under which every service answers as well."""
    url_scheme: str = "http"
    path_template: str = ""
    """Path below which a service answers on `ingress_domain`, with {{ .Namespace }} and {{ .Name }}; empty for none."""
    disable_virtual_service: bool = False
    """Whether services answer under their components' names only, without a VirtualService."""
    await_reconciled: bool = False
    """Whether a route counts only from when the gateway says so: from the condition Reconciled of its VirtualService, which
    onebox always writes and Istio where its status reporting is on. KServe does not have this key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageInitializerSettings:
    """The init container that fetches models."""

    image: str = "kserve/storage-initializer:latest"
    cpu_request: str = "100m"
    cpu_limit: str = "1"
    memory_request: str = "100Mi"
    memory_limit: str = "1Gi"
    ca_bundle_config_map: str = ""
    """A config map beside this one whose certificate authorities all initializers trust as well; "" for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggerSettings:
    """What holds for loggers that do not say otherwise themselves."""

    default_url: str = "http://default-broker"
    """Where events go."""
    ca_bundle: str = ""
    """A config map in the service's namespace with the certificate authorities of that place; "" for none."""
    ca_cert_file: str = ""
    """The key of that map; "" for the agent's own default."""
    skip_tls_verify: bool = False
    marshaller_url: str = ""
    """Who turns events into bytes for `logger.storage`; "" for the agent's own default."""
    batch_size: int = 0
    """Events in one write; 0 for the agent's own default."""
    batch_interval: str = ""
    """Longest wait for a batch, as Go writes durations; "" for the agent's own default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """The container that batches and logs requests."""

    image: str = "kserve/agent:latest"
    cpu_request: str = "100m"
    cpu_limit: str = "1"
    memory_request: str = "100Mi"
    memory_limit: str = "1Gi"
    logger: LoggerSettings = LoggerSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Defaults:
    """What holds for S3 where neither the secret nor its annotations say otherwise; "" says nothing."""

    endpoint: str = ""
    use_https: str = ""
    region: str = ""
    verify_ssl: str = ""
    virtual_bucket: str = ""
    accelerate: str = ""
    anonymous: str = ""
    ca_bundle: str = ""
    ca_bundle_config_map: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialSettings:
    """How secrets with credentials are found and read."""

    storage_secret_name: str = "storage-config"  # noqa: S105  # A name.
    """The secret that describes stores, one a key."""
    secret_name_annotation: str = "serving.kserve.io/storageSecretName"  # noqa: S105
    """An annotation of a service that names the secret to take."""
    s3_access_key_id: str = "AWS_ACCESS_KEY_ID"
    s3_secret_access_key: str = "AWS_SECRET_ACCESS_KEY"  # noqa: S105
    """Keys of a secret for S3."""
    gcs_file: str = "gcloud-application-credentials.json"
    """The key of a secret for Google's storage."""
    s3: S3Defaults = S3Defaults()
    ca_bundle_directory: str = "/etc/ssl/custom-certs"
    """Where certificate authorities are mounted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    defaults: Defaults = SHIPPED
    ingress: IngressSettings = IngressSettings()
    storage_initializer: StorageInitializerSettings = StorageInitializerSettings()
    credentials: CredentialSettings = CredentialSettings()
    agent: AgentSettings = AgentSettings()
    art_image: str = "kserve/art-explainer"
    annotations_disallowed: frozenset[str] = frozenset(_ANNOTATIONS_DISALLOWED)
    labels_disallowed: frozenset[str] = frozenset(_LABELS_DISALLOWED)
    prometheus_scraping: bool = False
    """Whether pods say to Prometheus where their metrics are, where a service does not say otherwise."""
    idle: tuple[IdleSetting, ...] = ()
    """What stands in inferenceservice-config and changes nothing here."""
    cluster_domain: str = "cluster.local"
    knative_domains: tuple[str, ...] = ()
    """Domains that Knative hands out; the first that ends a host is replaced by the additional ones."""
    init_containers_allowed: bool = True
    """Whether Knative's flag kubernetes.podspec-init-containers is enabled."""
    zero_initial_scale_allowed: bool = False


def parse_settings(kserve: ConfigMap | None, knative: Mapping[str, ConfigMap]) -> Settings:
    """Settings from inferenceservice-config and from Knative's config maps by name; UserError InvalidConfig.

    A Knative map that is not there has Knative's defaults, under which init containers are not allowed.
    """
    data = kserve.data if kserve is not None else {}
    features = _data(knative, "config-features")
    disallowed = section_of(data, "inferenceService")
    return Settings(
        defaults=parse_defaults(data),
        ingress=_parse_ingress(section_of(data, "ingress")),
        storage_initializer=_parse_storage_initializer(section_of(data, "storageInitializer")),
        credentials=_parse_credentials(data),
        agent=_parse_agent(section_of(data, "agent"), section_of(data, "logger")),
        art_image=str(section_of(section_of(data, "explainers"), "art").get("image") or Settings().art_image),
        annotations_disallowed=frozenset(
            (*_ANNOTATIONS_DISALLOWED, *strings_of(disallowed, "serviceAnnotationDisallowedList"))
        ),
        labels_disallowed=frozenset((*_LABELS_DISALLOWED, *strings_of(disallowed, "serviceLabelDisallowedList"))),
        prometheus_scraping=_is_true(section_of(data, "metricsAggregator").get("enablePrometheusScraping")),
        idle=idle_settings(data),
        knative_domains=tuple(name for name in _data(knative, "config-domain") if name != "_example"),
        init_containers_allowed=_is_enabled(features.get("kubernetes.podspec-init-containers")),
        zero_initial_scale_allowed=_data(knative, "config-autoscaler").get("allow-zero-initial-scale") == "true",
    )


def _parse_ingress(section: JsonObject) -> IngressSettings:
    shipped = IngressSettings()
    local_service = str(section.get("localGatewayService") or shipped.local_gateway_service)
    settings = IngressSettings(
        ingress_gateway=str(section.get("ingressGateway") or shipped.ingress_gateway),
        local_gateway=str(section.get("localGateway") or shipped.local_gateway),
        local_gateway_service=local_service,
        knative_local_gateway_service=str(section.get("knativeLocalGatewayService") or local_service),
        ingress_domain=str(section.get("ingressDomain") or shipped.ingress_domain),
        additional_ingress_domains=strings_of(section, "additionalIngressDomains"),
        url_scheme=str(section.get("urlScheme") or shipped.url_scheme),
        path_template=str(section.get("pathTemplate") or ""),
        disable_virtual_service=bool(section.get("disableIstioVirtualHost")),
        await_reconciled=bool(section.get("awaitReconciledVirtualService")),
    )
    if settings.path_template and not section.get("ingressDomain"):
        raise invalid_config("ingress", "pathTemplate needs ingressDomain, the host of the paths")
    return settings


def _parse_storage_initializer(section: JsonObject) -> StorageInitializerSettings:
    shipped = StorageInitializerSettings()
    return StorageInitializerSettings(
        image=str(section.get("image") or shipped.image),
        cpu_request=str(section.get("cpuRequest") or shipped.cpu_request),
        cpu_limit=str(section.get("cpuLimit") or shipped.cpu_limit),
        memory_request=str(section.get("memoryRequest") or shipped.memory_request),
        memory_limit=str(section.get("memoryLimit") or shipped.memory_limit),
        ca_bundle_config_map=str(section.get("caBundleConfigMapName") or ""),
    )


def _parse_agent(section: JsonObject, logger: JsonObject) -> AgentSettings:
    shipped = AgentSettings()
    return AgentSettings(
        image=str(section.get("image") or shipped.image),
        cpu_request=str(section.get("cpuRequest") or shipped.cpu_request),
        cpu_limit=str(section.get("cpuLimit") or shipped.cpu_limit),
        memory_request=str(section.get("memoryRequest") or shipped.memory_request),
        memory_limit=str(section.get("memoryLimit") or shipped.memory_limit),
        logger=_parse_logger(logger),
    )


def _parse_logger(section: JsonObject) -> LoggerSettings:
    batch_size = section.get("batchSize") or 0
    if not isinstance(batch_size, int) or batch_size < 0:
        raise invalid_config("logger", f"batchSize = {batch_size}, must be a whole number of 0 or more")
    return LoggerSettings(
        default_url=str(section.get("defaultUrl") or LoggerSettings().default_url),
        ca_bundle=str(section.get("caBundle") or ""),
        ca_cert_file=str(section.get("caCertFile") or ""),
        skip_tls_verify=bool(section.get("tlsSkipVerify")),
        marshaller_url=str(section.get("marshallerUrl") or ""),
        batch_size=batch_size,
        batch_interval=str(section.get("batchInterval") or ""),
    )


def _parse_credentials(data: Mapping[str, str]) -> CredentialSettings:
    shipped, section = CredentialSettings(), section_of(data, "credentials")
    s3, gcs, initializer = section_of(section, "s3"), section_of(section, "gcs"), section_of(data, "storageInitializer")
    # KServe's code has other names than its shipped settings; they hold where the settings are there and say nothing.
    key_id = "awsAccessKeyID" if section else shipped.s3_access_key_id
    secret_key = "awsSecretAccessKey" if section else shipped.s3_secret_access_key
    return CredentialSettings(
        storage_secret_name=str(section.get("storageSpecSecretName") or shipped.storage_secret_name),
        secret_name_annotation=str(section.get("storageSecretNameAnnotation") or shipped.secret_name_annotation),
        s3_access_key_id=str(s3.get("s3AccessKeyIDName") or key_id),
        s3_secret_access_key=str(s3.get("s3SecretAccessKeyName") or secret_key),
        gcs_file=str(gcs.get("gcsCredentialFileName") or shipped.gcs_file),
        s3=S3Defaults(
            endpoint=str(s3.get("s3Endpoint") or ""),
            use_https=str(s3.get("s3UseHttps") or ""),
            region=str(s3.get("s3Region") or ""),
            verify_ssl=str(s3.get("s3VerifySSL") or ""),
            virtual_bucket=str(s3.get("s3UseVirtualBucket") or ""),
            accelerate=str(s3.get("s3UseAccelerate") or ""),
            anonymous=str(s3.get("s3UseAnonymousCredential") or ""),
            ca_bundle=str(s3.get("s3CABundle") or ""),
            ca_bundle_config_map=str(s3.get("s3CABundleConfigMap") or ""),
        ),
        ca_bundle_directory=str(initializer.get("caBundleVolumeMountPath") or shipped.ca_bundle_directory),
    )


def _data(maps: Mapping[str, ConfigMap], name: str) -> Mapping[str, str]:
    found = maps.get(name)
    return found.data if found is not None else {}


def _is_true(value: object) -> bool:
    return str(value or "").lower() == "true"  # KServe ships texts.


def _is_enabled(flag: str | None) -> bool:
    # Knative's third value, Allowed, lets the field through as well.
    return flag is not None and flag.lower() in ("enabled", "allowed")
