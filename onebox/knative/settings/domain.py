"""config-domain: which domain the public names of a route are under, by the route's labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from controller.base.errors import UserError
from controller.base.names import VISIBILITY_LABEL

CLUSTER_DOMAIN = "cluster.local"
"""Kubernetes' default; onebox has no other."""
LOCAL_DOMAIN = f"svc.{CLUSTER_DOMAIN}"
CLUSTER_LOCAL = "cluster-local"
"""The value of the visibility label that keeps a route off the public gateway."""
_EXAMPLE_KEY = "_example"


@dataclass(frozen=True, slots=True)
class DomainSettings:
    """Domains with the labels that a route needs to get them; no labels: the domain of all other routes."""

    selectors: Mapping[str, Mapping[str, str]] | None = None

    def domain_for(self, labels: Mapping[str, str]) -> str:
        """The domain with the most labels that this route has; among equals the first by name."""
        if labels.get(VISIBILITY_LABEL) == CLUSTER_LOCAL:
            return LOCAL_DOMAIN
        matching = [
            (-len(selector), domain)
            for domain, selector in (self.selectors or {}).items()
            if selector.items() <= labels.items()
        ]
        return min(matching)[1] if matching else LOCAL_DOMAIN


def parse_domain(data: Mapping[str, str]) -> DomainSettings:
    """The config map as a value; UserError where a domain's value is no YAML with a `selector`."""
    return DomainSettings({domain: _selector(domain, text) for domain, text in data.items() if domain != _EXAMPLE_KEY})


def _selector(domain: str, text: str) -> Mapping[str, str]:
    try:
        loaded = yaml.safe_load(text) or {}
        selector = loaded.get("selector") or {}
        return {str(name): str(value) for name, value in selector.items()}
    except (yaml.YAMLError, AttributeError):
        raise UserError(
            "InvalidConfiguration", f"config-domain: {domain} = {text!r}, must be empty or hold `selector:` with labels"
        ) from None
