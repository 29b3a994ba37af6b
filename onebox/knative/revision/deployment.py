"""The Deployment of a revision, field by field as Knative makes it (pure).

What the API server fills in by itself (pull policies, surge, restart policy) is left to it.
"""

from __future__ import annotations

import zlib

import orjson

from controller.api.core import Container
from controller.api.knative import Revision
from controller.api.meta import owner_reference
from controller.base.json import JsonObject
from controller.base.names import CONFIGURATION_LABEL, KSVC_LABEL, REVISION_LABEL, REVISION_UID_LABEL
from onebox.knative.duration import parse_duration_s
from onebox.knative.metadata import revision_labels, workload_annotations
from onebox.knative.names import (
    DEFAULT_CONTAINER_ANNOTATION,
    DEPLOYMENT_HASH_LABEL,
    INITIAL_SCALE,
    PROGRESS_DEADLINE,
    QUEUE_ADMIN_PORT,
    deployment_name,
)
from onebox.knative.revision.queue_proxy import build_queue_proxy, user_port
from onebox.knative.settings import Feature, ServingSettings

_KNATIVE_FIELDS = ("containerConcurrency", "timeoutSeconds", "responseStartTimeoutSeconds", "idleTimeoutSeconds")
_BASE_36 = "0123456789abcdefghijklmnopqrstuvwxyz"


def initial_scale(revision: Revision, settings: ServingSettings) -> int:
    """The pods that a revision starts with, and has to reach before it is Ready."""
    asked = INITIAL_SCALE.value(revision.metadata.annotations)
    return int(asked) if asked is not None else settings.scale.initial_scale


def build_deployment(revision: Revision, settings: ServingSettings, *, replicas: int | None) -> JsonObject:
    """The manifest; with `replicas` None it leaves them to whoever has them: the autoscaler, once it has scaled."""
    labels, selector = revision_labels(revision), {REVISION_UID_LABEL: revision.metadata.uid}
    spec: JsonObject = {
        "selector": {"matchLabels": selector},
        "progressDeadlineSeconds": _progress_deadline_s(revision, settings),
        "revisionHistoryLimit": 0,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0}},
        "template": {
            "metadata": {"labels": dict(labels), "annotations": _pod_annotations(revision)},
            "spec": _pod_spec(revision, settings),
        },
    }
    annotations = workload_annotations(revision)
    digest = _digest({"spec": spec, "annotations": annotations, "labels": labels})
    if replicas is not None:
        spec["replicas"] = replicas
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": deployment_name(revision.metadata.name),
            "namespace": revision.metadata.namespace,
            "labels": {**labels, DEPLOYMENT_HASH_LABEL: digest},
            "annotations": annotations,
            "ownerReferences": [owner_reference(revision).to_json()],
        },
        "spec": spec,
    }


def _progress_deadline_s(revision: Revision, settings: ServingSettings) -> int:
    asked = PROGRESS_DEADLINE.value(revision.metadata.annotations)
    return int(parse_duration_s(asked)) if asked else settings.deployment.progress_deadline_s


def _pod_annotations(revision: Revision) -> dict[str, str]:
    name = revision.spec.serving_container().name
    return {**workload_annotations(revision), **({DEFAULT_CONTAINER_ANNOTATION: name} if name else {})}


def _pod_spec(revision: Revision, settings: ServingSettings) -> JsonObject:
    pod = {key: value for key, value in revision.spec.to_json().items() if key not in _KNATIVE_FIELDS}
    pod["containers"] = [
        *(_user_container(container, revision, settings) for container in revision.spec.containers),
        build_queue_proxy(revision, settings),
    ]
    if revision.spec.timeoutSeconds is not None:
        # A request that began just before its pod was told to stop is still answered.
        pod["terminationGracePeriodSeconds"] = revision.spec.timeoutSeconds
    if "enableServiceLinks" not in pod and settings.defaults.enable_service_links is not None:
        pod["enableServiceLinks"] = settings.defaults.enable_service_links
    if settings.deployment.spread_over_nodes and not pod.get("affinity"):
        pod["affinity"] = _spread_over_nodes(revision.metadata.name)
    return pod


def _user_container(container: Container, revision: Revision, settings: ServingSettings) -> JsonObject:
    """A container of the user with Knative's environment, and its stop delayed until the queue-proxy has drained."""
    built = container.to_json()
    environment = [*(built.get("env") or [])]
    if container == revision.spec.serving_container():
        port = user_port(revision)
        built["ports"] = [{"name": "user-port", "containerPort": port, "protocol": "TCP"}]
        environment.append({"name": "PORT", "value": str(port)})
        _set_liveness_port(built, port, keep_own=settings.features.enabled(Feature.MULTI_CONTAINER_PROBING))
    labels = revision.metadata.labels
    built["env"] = [
        *environment,
        {"name": "K_REVISION", "value": revision.metadata.name},
        {"name": "K_CONFIGURATION", "value": labels.get(CONFIGURATION_LABEL, "")},
        {"name": "K_SERVICE", "value": labels.get(KSVC_LABEL, "")},
    ]
    built["lifecycle"] = {"preStop": {"httpGet": {"path": "/wait-for-drain", "port": QUEUE_ADMIN_PORT}}}
    built.setdefault("terminationMessagePolicy", "FallbackToLogsOnError")
    if container.readinessProbe is not None and container.readinessProbe.exec is None:
        del built["readinessProbe"]  # The queue-proxy runs it.
    return built


def _set_liveness_port(container: JsonObject, port: int, *, keep_own: bool) -> None:
    probe = container.get("livenessProbe") or {}
    for handler in ("httpGet", "tcpSocket"):
        if handler in probe and not (keep_own and probe[handler].get("port")):
            probe[handler]["port"] = port


def _spread_over_nodes(revision: str) -> JsonObject:
    term = {"labelSelector": {"matchLabels": {REVISION_LABEL: revision}}, "topologyKey": "kubernetes.io/hostname"}
    preferred = [{"podAffinityTerm": term, "weight": 100}]
    return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}


def _digest(content: JsonObject) -> str:
    """32 bits in base 36, the form of Knative's label: it tells people whether settings changed the Deployment."""
    value = zlib.crc32(orjson.dumps(content, option=orjson.OPT_SORT_KEYS))
    digits = ""
    while value:
        value, digit = divmod(value, 36)
        digits = _BASE_36[digit] + digits
    return digits
