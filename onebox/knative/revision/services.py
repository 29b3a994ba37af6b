"""The two Services of a revision, and the Endpoints of the public one (pure).

The private Service selects the revision's pods; whoever keeps Endpoints for selectors keeps its. The public one, which
routes lead to, has no selector: its Endpoints are the ready pods, or the activator where there are none or too few.
"""

from __future__ import annotations

from collections.abc import Sequence

from controller.api.core import Endpoints, EndpointSubset
from controller.api.knative import Revision
from controller.api.meta import owner_reference
from controller.base.json import JsonObject, JsonView
from controller.base.names import REVISION_UID_LABEL
from onebox.knative.autoscaler.report import ScaleReport
from onebox.knative.endpoints import Address, leads_to
from onebox.knative.metadata import revision_labels, service_annotations
from onebox.knative.names import (
    CLASS_ANNOTATION,
    QUEUE_HTTPS_PORT,
    QUEUE_METRICS_PORT,
    QUEUE_STATS_PORT,
    SERVERLESS_SERVICE_LABEL,
    SERVICE_TYPE_LABEL,
    private_service_name,
)
from onebox.knative.revision.queue_proxy import is_h2c, serving_port
from onebox.knative.settings import ServingSettings

HTTP_SERVICE_PORT, HTTP2_SERVICE_PORT, HTTPS_SERVICE_PORT = 80, 81, 443
H2C_PROTOCOL = "kubernetes.io/h2c"
_LOCALHOST = "127.0.0.1"


def service_port(revision: Revision) -> int:
    """The port of the public Service that routes name."""
    return HTTP2_SERVICE_PORT if is_h2c(revision) else HTTP_SERVICE_PORT


def build_public_service(revision: Revision, settings: ServingSettings) -> JsonObject:
    """The Service that routes lead to."""
    ports = [_data_port(revision, service_port(revision)), _https_port()]
    return _service(revision, settings, name=revision.metadata.name, type_="Public", spec={"ports": ports})


def build_private_service(revision: Revision, settings: ServingSettings) -> JsonObject:
    """The Service that always means the revision's pods."""
    port = serving_port(revision)
    mirrored = _data_port(revision, port) | {"name": f"{_port_name(revision)}-istio"}
    mirrored.pop("appProtocol", None)
    ports = [
        _data_port(revision, HTTP_SERVICE_PORT),
        _https_port(),
        {"name": "http-autometric", "port": QUEUE_STATS_PORT, "protocol": "TCP", "targetPort": "http-autometric"},
        {"name": "http-usermetric", "port": QUEUE_METRICS_PORT, "protocol": "TCP", "targetPort": "http-usermetric"},
        mirrored,
    ]
    selector = {REVISION_UID_LABEL: revision.metadata.uid}
    name = private_service_name(revision.metadata.name)
    return _service(revision, settings, name=name, type_="Private", spec={"ports": ports, "selector": selector})


def decide_proxied(report: ScaleReport | None, public: JsonView | None, *, activator_port: int) -> bool:
    """Whether requests have to go through the activator, by the autoscaler's word.

    Before it has spoken (it has just started) all stays as it is, or else each start would move every revision there and
    back. A revision without Endpoints is used as soon as a pod is ready: holding requests back would be worse.
    """
    return leads_to(public, Address(_LOCALHOST, activator_port)) if report is None else report.proxied


def decide_subsets(
    revision: Revision, pods: Endpoints | None, *, proxied: bool, activator_port: int
) -> list[JsonObject]:
    """Where requests for the revision go: to its ready pods, or to the activator, which waits for one."""
    name = _port_name(revision)
    ready = [found for subset in (pods.subsets if pods else ()) if (found := _only_port(subset, name))]
    if ready and not proxied:
        return sorted(ready, key=_order)
    port = {"name": name, "port": activator_port, "protocol": "TCP"}
    return [{"addresses": [{"ip": _LOCALHOST}], "ports": [port]}]


def build_public_endpoints(revision: Revision, settings: ServingSettings, subsets: Sequence[JsonObject]) -> JsonObject:
    """The Endpoints of the public Service."""
    service = build_public_service(revision, settings)
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": service["metadata"], "subsets": [*subsets]}


def _service(revision: Revision, settings: ServingSettings, *, name: str, type_: str, spec: JsonObject) -> JsonObject:
    meta = revision.metadata
    autoscaler_class = meta.annotations.get(CLASS_ANNOTATION, settings.scale.pod_autoscaler_class)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": meta.namespace,
            "labels": {**revision_labels(revision), SERVERLESS_SERVICE_LABEL: meta.name, SERVICE_TYPE_LABEL: type_},
            "annotations": service_annotations(revision, autoscaler_class),
            "ownerReferences": [owner_reference(revision).to_json()],
        },
        "spec": spec,
    }


def _port_name(revision: Revision) -> str:
    return "http2" if is_h2c(revision) else "http"


def _data_port(revision: Revision, number: int) -> JsonObject:
    port = {"name": _port_name(revision), "port": number, "protocol": "TCP", "targetPort": serving_port(revision)}
    return {**port, "appProtocol": H2C_PROTOCOL} if is_h2c(revision) else port


def _https_port() -> JsonObject:
    return {"name": "https", "port": HTTPS_SERVICE_PORT, "protocol": "TCP", "targetPort": QUEUE_HTTPS_PORT}


def _only_port(subset: EndpointSubset, name: str) -> JsonObject | None:
    ports = [port.to_json() for port in subset.ports if port.name == name]
    addresses = [address.to_json() for address in subset.addresses]
    return {"addresses": addresses, "ports": ports} if ports and addresses else None


def _order(subset: JsonObject) -> tuple[str, int]:
    return subset["addresses"][0]["ip"], subset["ports"][0]["port"]
