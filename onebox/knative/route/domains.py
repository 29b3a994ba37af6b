"""The names under which a Route answers: host names, URLs, and who may reach them (pure)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from controller.api.core import Service
from controller.api.knative import Route
from controller.base.names import VISIBILITY_LABEL
from onebox.knative.route.traffic import DEFAULT_TARGET
from onebox.knative.settings import ServingSettings
from onebox.knative.settings.domain import CLUSTER_DOMAIN, CLUSTER_LOCAL, LOCAL_DOMAIN
from onebox.knative.settings.network import DOMAIN_TEMPLATE
from onebox.knative.templates import render_template

HTTP_PORT = 80
"""The port that a URL need not name."""


class Visibility(StrEnum):
    """Knative's words for who may reach a target."""

    EXTERNAL = "ExternalIP"
    LOCAL = "ClusterLocal"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteNames:
    """The names of one Route's targets."""

    route: Route
    settings: ServingSettings
    gateway_port: int
    """Where the public gateway listens: part of public URLs, since no load balancer maps port 80 to it."""
    visibility: Mapping[str, Visibility]
    """By target name."""

    def host_name(self, target: str) -> str:
        """The first part of the target's host, and the name of its placeholder Service."""
        name = self.route.metadata.name
        if target == DEFAULT_TARGET:
            return name
        return render_template(self.settings.network.tag_template, {"Name": name, "Tag": target})

    def host(self, target: str, visibility: Visibility) -> str:
        """The target's host as seen from inside or outside."""
        meta = self.route.metadata
        local = visibility is Visibility.LOCAL
        labels = {**meta.labels, VISIBILITY_LABEL: CLUSTER_LOCAL} if local else meta.labels
        values: dict[str, str | Mapping[str, str]] = {
            "Name": self.host_name(target),
            "Namespace": meta.namespace,
            "Domain": self.settings.domain.domain_for(labels),
            "Annotations": meta.annotations,
            "Labels": labels,
        }
        # Names inside the cluster are Kubernetes' own, whatever pattern the public ones follow.
        return render_template(DOMAIN_TEMPLATE if local else self.settings.network.domain_template, values)

    def url(self, target: str) -> str:
        """The URL to give to people."""
        visibility = self.visibility.get(target, Visibility.EXTERNAL)
        host = self.host(target, visibility)
        if visibility is Visibility.LOCAL:
            return f"http://{host}"
        port = "" if self.gateway_port == HTTP_PORT else f":{self.gateway_port}"
        return f"{self.settings.network.external_scheme}://{host}{port}"

    def address(self) -> str:
        """The URL for other workloads."""
        return f"http://{self.route.metadata.name}.{self.route.metadata.namespace}.{LOCAL_DOMAIN}"


def resolve_visibility(
    route: Route, host_names: Mapping[str, str], placeholders: Mapping[str, Service], settings: ServingSettings
) -> Mapping[str, Visibility]:
    """Who may reach each target: `host_names` are its targets' host names, `placeholders` the Services of these names.

    A label on the Route closes all of it, a label on one placeholder Service closes that target.
    """
    local_route = settings.domain.domain_for(route.metadata.labels) == LOCAL_DOMAIN
    return {
        target: Visibility.LOCAL if local_route or _is_local(placeholders.get(name)) else Visibility.EXTERNAL
        for target, name in host_names.items()
    }


def expanded_hosts(hosts: Iterable[str]) -> list[str]:
    """The hosts, and for names inside the cluster the shorter ones that resolvers allow; sorted."""
    suffixes = (f".{CLUSTER_DOMAIN}", f".{LOCAL_DOMAIN}")
    expanded = set(hosts)
    expanded |= {host.removesuffix(suffix) for host in expanded for suffix in suffixes if host.endswith(suffix)}
    return sorted(expanded)


def distinct_prefixes(hosts: Collection[str]) -> list[str]:
    """The fewest prefixes that match these hosts; a name inside the cluster counts without its domain."""
    prefixes: list[str] = []
    for host in sorted(hosts):
        prefix = host.removesuffix(f".{LOCAL_DOMAIN}")
        if not any(prefix.startswith(known) for known in prefixes):
            prefixes.append(prefix)
    return sorted(prefixes)


def _is_local(placeholder: Service | None) -> bool:
    return placeholder is not None and placeholder.metadata.labels.get(VISIBILITY_LABEL) == CLUSTER_LOCAL
