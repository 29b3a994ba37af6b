"""config-features: which parts of a pod spec, and which optional behaviour, a user may use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Flag(StrEnum):
    ENABLED = "enabled"
    ALLOWED = "allowed"
    DISABLED = "disabled"
    ALLOW_ROOT_BOUNDED = "allowrootbounded"
    """Of secure-pod-defaults only: secure defaults that let the container run as root."""


class Feature(StrEnum):
    """A key of config-features."""

    MULTI_CONTAINER = "multi-container"
    MULTI_CONTAINER_PROBING = "multi-container-probing"
    AFFINITY = "kubernetes.podspec-affinity"
    TOPOLOGY_SPREAD_CONSTRAINTS = "kubernetes.podspec-topologyspreadconstraints"
    HOST_ALIASES = "kubernetes.podspec-hostaliases"
    FIELD_REF = "kubernetes.podspec-fieldref"
    NODE_SELECTOR = "kubernetes.podspec-nodeselector"
    RUNTIME_CLASS_NAME = "kubernetes.podspec-runtimeclassname"
    SECURITY_CONTEXT = "kubernetes.podspec-securitycontext"
    SHARE_PROCESS_NAMESPACE = "kubernetes.podspec-shareprocessnamespace"
    HOST_IPC = "kubernetes.podspec-hostipc"
    HOST_PID = "kubernetes.podspec-hostpid"
    HOST_NETWORK = "kubernetes.podspec-hostnetwork"
    PRIORITY_CLASS_NAME = "kubernetes.podspec-priorityclassname"
    SCHEDULER_NAME = "kubernetes.podspec-schedulername"
    ADD_CAPABILITIES = "kubernetes.containerspec-addcapabilities"
    TOLERATIONS = "kubernetes.podspec-tolerations"
    EMPTY_DIR = "kubernetes.podspec-volumes-emptydir"
    HOST_PATH = "kubernetes.podspec-volumes-hostpath"
    MOUNT_PROPAGATION = "kubernetes.podspec-volumes-mount-propagation"
    CSI = "kubernetes.podspec-volumes-csi"
    EPHEMERAL = "kubernetes.podspec-volumes-ephemeral"
    IMAGE_VOLUME = "kubernetes.podspec-volumes-image"
    VOLUME_CLAIM = "kubernetes.podspec-persistent-volume-claim"
    VOLUME_CLAIM_WRITE = "kubernetes.podspec-persistent-volume-write"
    INIT_CONTAINERS = "kubernetes.podspec-init-containers"
    DNS_POLICY = "kubernetes.podspec-dnspolicy"
    DNS_CONFIG = "kubernetes.podspec-dnsconfig"
    SECURE_POD_DEFAULTS = "secure-pod-defaults"
    TAG_HEADER_ROUTING = "tag-header-based-routing"
    AUTO_DETECT_HTTP2 = "autodetect-http2"
    QUEUE_PROXY_RESOURCE_DEFAULTS = "queueproxy.resource-defaults"


_ENABLED_BY_DEFAULT = frozenset({Feature.MULTI_CONTAINER, Feature.EMPTY_DIR})


@dataclass(frozen=True, slots=True)
class Features:
    """The flag of every feature; Knative's default is disabled for all but multi-container and emptyDir volumes."""

    flags: Mapping[Feature, Flag] = field(default_factory=dict)

    def flag(self, feature: Feature) -> Flag:
        default = Flag.ENABLED if feature in _ENABLED_BY_DEFAULT else Flag.DISABLED
        return self.flags.get(feature, default)

    def enabled(self, feature: Feature) -> bool:
        return self.flag(feature) is Flag.ENABLED

    def permitted(self, feature: Feature) -> bool:
        """Enabled or allowed: a manifest may use it."""
        return self.flag(feature) is not Flag.DISABLED


def parse_features(data: Mapping[str, str]) -> Features:
    """The config map as a value; a value that is no flag counts as absent, as in Knative."""
    known = {feature: data[feature].lower() for feature in Feature if feature in data}
    return Features({feature: Flag(raw) for feature, raw in known.items() if raw in _values_of(feature)})


def _values_of(feature: Feature) -> frozenset[str]:
    if feature is Feature.SECURE_POD_DEFAULTS:
        return frozenset({Flag.ENABLED, Flag.DISABLED, Flag.ALLOW_ROOT_BOUNDED})
    return frozenset({Flag.ENABLED, Flag.ALLOWED, Flag.DISABLED})
