"""A Route's ingress rules as Istio's VirtualService, as Knative's Istio controller makes it (pure).

Each rule comes twice: first for probes, which learn from a header that they set which version of the rules is in force.
Retries are switched off, since Istio would repeat requests of its own accord; there is no timeout, since the revision's own
is kept by its queue-proxy.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from controller.api.istio import ISTIO_API_VERSION
from controller.api.knative import Route
from controller.api.meta import owner_reference
from controller.base.json import JsonObject
from controller.base.names import NAMESPACE_HEADER, REVISION_HEADER
from onebox.knative.metadata import passed_on
from onebox.knative.names import (
    INGRESS_CLASS_ANNOTATION,
    INGRESS_LABEL,
    ROLLOUT_ANNOTATION,
    TAG_TO_HOST_ANNOTATION,
    virtual_service_name,
)
from onebox.knative.route.domains import Visibility, distinct_prefixes
from onebox.knative.route.ingress import TAG_HEADER, Rule, Split, rules_digest
from onebox.knative.settings.domain import LOCAL_DOMAIN

GATEWAYS: Mapping[Visibility, str] = {
    Visibility.EXTERNAL: "knative-serving/knative-ingress-gateway",
    Visibility.LOCAL: "knative-serving/knative-local-gateway",
}
INGRESS_CLASS = "istio.ingress.networking.knative.dev"
HASH_HEADER = "K-Network-Hash"
_HASH_OVERRIDE = "override"


def build_virtual_service(
    route: Route, rules: tuple[Rule, ...], tag_hosts: Mapping[str, list[str]], *, rollout: str
) -> JsonObject:
    """The manifest of `<route>-ingress`; `rollout`: how far traffic was moved to new revisions."""
    meta = route.metadata
    annotations = {INGRESS_CLASS_ANNOTATION: INGRESS_CLASS, **passed_on(meta.annotations), ROLLOUT_ANNOTATION: rollout}
    if tag_hosts:
        annotations[TAG_TO_HOST_ANNOTATION] = orjson.dumps(tag_hosts).decode()
    digest = rules_digest(rules, meta.namespace, meta.name)
    return {
        "apiVersion": ISTIO_API_VERSION,
        "kind": "VirtualService",
        "metadata": {
            "name": virtual_service_name(meta.name),
            "namespace": meta.namespace,
            "labels": {**meta.labels, INGRESS_LABEL: meta.name},
            "annotations": annotations,
            "ownerReferences": [owner_reference(route).to_json()],
        },
        "spec": {
            "gateways": sorted({GATEWAYS[rule.visibility] for rule in rules}),
            "hosts": sorted({host for rule in rules for host in rule.hosts}),
            "http": [
                entry
                for rule in rules
                for entry in (_entry(rule, meta.namespace, probe=digest), _entry(rule, meta.namespace, probe=""))
            ],
        },
    }


def _entry(rule: Rule, namespace: str, *, probe: str) -> JsonObject:
    entry: JsonObject = {
        "match": [_match(prefix, rule, probe) for prefix in distinct_prefixes(rule.hosts)],
        "route": [_destination(split, namespace) for split in rule.splits],
        "retries": {},
    }
    headers = dict(rule.headers) | ({HASH_HEADER: probe} if probe else {})
    return {**entry, "headers": {"request": {"set": headers}}} if headers else entry


def _match(prefix: str, rule: Rule, probe: str) -> JsonObject:
    # A prefix, so that a host with a port matches as well.
    match: JsonObject = {"authority": {"prefix": prefix}, "gateways": [GATEWAYS[rule.visibility]]}
    headers = {TAG_HEADER: {"exact": rule.tag}} if rule.tag else {}
    headers |= {HASH_HEADER: {"exact": _HASH_OVERRIDE}} if probe else {}
    return {**match, "headers": headers} if headers else match


def _destination(split: Split, namespace: str) -> JsonObject:
    headers = {NAMESPACE_HEADER: namespace, REVISION_HEADER: split.revision}
    return {
        "destination": {"host": f"{split.revision}.{namespace}.{LOCAL_DOMAIN}", "port": {"number": split.port}},
        "weight": split.percent,
        "headers": {"request": {"set": headers}},
    }
