"""Requests by revision, their codes and their times, as Envoy counted them; and Envoy's own page of the gateway.

Knative's queue-proxy reports these under the same names; here they are what clients saw, retries and the activator
included. Envoy drops a cluster's numbers with the cluster, and shows only clusters that had requests.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from controller.base.exposition import Family
from onebox.istio.registry import CLUSTER_DOMAIN

FILTER = "|".join(
    (
        r"^http\.(public|local)\.downstream_(rq_[1-5]xx|cx_active)$",
        rf"^cluster\..*\.{re.escape(CLUSTER_DOMAIN)}\.upstream_rq_([2-5]xx|time)$",
    )
)
"""Of Envoy's statistics, by their full names."""
_SAMPLE = re.compile(r"^(envoy_[a-z_]+)\{(.*)\} (\S+)$")
_LABEL = re.compile(r'([a-z_]+)="([^"]*)"')
_CLUSTER = re.compile(rf"^outbound\|\d+\|[^|]*\|([^.]+)\.([^.]+)\.{re.escape(CLUSTER_DOMAIN)}$")
_LISTENER_KINDS = {
    "envoy_http_downstream_rq_xx": ("counter", "Answers of the gateway by class of code"),
    "envoy_http_downstream_cx_active": ("gauge", "Connections of clients"),
}

LabelsOf = Callable[[str, str], str | None]
"""Namespace and name of a revision to its rendered labels; None where there is no such revision."""


def plan_gateway_families(page: str, labels_of: LabelsOf) -> Iterable[Family]:
    """The families from Envoy's Prometheus page; clusters that are no revision's are left out."""
    counts = Family("revision_request_count", "counter", "Requests of a revision, by class of code")
    times = Family("revision_request_latencies", "histogram", "Milliseconds until a revision's answer was complete")
    listeners = {name: Family(name, kind, text) for name, (kind, text) in _LISTENER_KINDS.items()}
    for line in page.splitlines():
        sample = _SAMPLE.match(line)
        if sample is None:
            continue
        name, labels, value = sample[1], dict(_LABEL.findall(sample[2])), float(sample[3])
        if name in listeners:
            listeners[name].add(sample[2], value)
        elif (revision := _revision_labels(labels, labels_of)) is None:
            continue
        elif name == "envoy_cluster_upstream_rq_xx":
            counts.add(f'{revision},response_code_class="{labels["envoy_response_code_class"]}xx"', value)
        elif name.startswith("envoy_cluster_upstream_rq_time_"):
            suffix = name.removeprefix("envoy_cluster_upstream_rq_time")
            bound = f',le="{labels["le"]}"' if "le" in labels else ""
            times.add(revision + bound, value, suffix=suffix)
    return counts, times, *listeners.values()


def _revision_labels(labels: Mapping[str, str], labels_of: LabelsOf) -> str | None:
    found = _CLUSTER.match(labels.get("envoy_cluster_name", ""))
    return labels_of(found[2], found[1]) if found else None
