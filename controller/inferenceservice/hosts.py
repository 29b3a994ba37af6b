"""Under which names a service answers, outside and inside the cluster. (pure)

Outside, Knative decides the name of a component, and the service's name is that one without the component's suffix. On one
machine Knative's URLs carry the gateway's port: it stays in `status.url` and never enters a VirtualService, whose hosts have
no port.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from controller.api.inferenceservice import InferenceService
from controller.api.meta import ObjectMeta
from controller.base.errors import UserError
from controller.base.names import VISIBILITY_LABEL
from controller.inferenceservice.components import Component
from controller.inferenceservice.config import Settings
from controller.inferenceservice.placeholders import render

_DNS_NAME: Final = re.compile(r"(?=.{1,253}$)([a-z0-9]([-a-z0-9]*[a-z0-9])?)(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceHosts:
    internal: str
    """The name inside the cluster: of the ExternalName Service."""
    external: str
    """The name outside, without a port; equal to `internal` where there is none."""
    additional: tuple[str, ...] = ()
    """Further names outside."""
    is_internal: bool = False
    """Whether nothing outside the cluster may reach the service."""
    url: str
    """What `status.url` says."""


def hosts_of(service: InferenceService, entry: Component, entry_url: str, settings: Settings) -> ServiceHosts:
    """The names of `service`, whose requests enter at the component `entry` with Knative's URL `entry_url`."""
    meta, ingress = service.metadata, settings.ingress
    if ingress.disable_virtual_service:
        host = urlsplit(entry_url).hostname or ""
        return ServiceHosts(internal=entry.local_host(settings.cluster_domain), external=host, url=entry_url)
    internal = f"{meta.name}.{meta.namespace}.svc.{settings.cluster_domain}"
    parts = urlsplit(entry_url)
    # Only the first occurrence is the component's own name; a domain may contain the same words.
    external = (parts.hostname or "").replace(entry.child_name, meta.name, 1)
    is_internal = service.metadata.labels.get(VISIBILITY_LABEL) == "cluster-local" or external == internal
    port = f":{parts.port}" if parts.port else ""
    url = f"{ingress.url_scheme}://{external}{port}"
    if ingress.path_template and not is_internal:
        url = f"{ingress.url_scheme}://{ingress.ingress_domain}{path_of(meta, ingress.path_template)}"
    return ServiceHosts(
        internal=internal,
        external=external,
        additional=() if is_internal else _additional(external, settings),
        is_internal=is_internal,
        url=url,
    )


def path_of(meta: ObjectMeta, template: str) -> str:
    """The path of a service below the common host; UserError InvalidConfig where the template gives none."""
    path = str(render(template, meta))
    if not path.startswith("/") or urlsplit(path).path != path:
        raise UserError(
            "InvalidConfig", f"ingress.pathTemplate gives {path!r}, which is not a path such as /serving/a/b"
        )
    return path


def _additional(external: str, settings: Settings) -> tuple[str, ...]:
    """The service's name under each additional domain in place of Knative's own."""
    own = next((domain for domain in settings.knative_domains if external.endswith(f".{domain}")), None)
    if own is None:
        return ()
    stem = external.removesuffix(f".{own}")
    names = (f"{stem}.{domain}" for domain in settings.ingress.additional_ingress_domains)
    valid = (name for name in names if name != external and _DNS_NAME.fullmatch(name))
    return tuple(dict.fromkeys(valid))
