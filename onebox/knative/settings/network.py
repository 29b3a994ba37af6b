"""config-network: how the names of routes are built, and how fast traffic moves to a new revision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onebox.knative.settings.values import ConfigReader
from onebox.knative.templates import render_template

DOMAIN_TEMPLATE = "{{.Name}}.{{.Namespace}}.{{.Domain}}"
TAG_TEMPLATE = "{{.Tag}}-{{.Name}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """Knative's config-network; all defaults are Knative's."""

    domain_template: str = DOMAIN_TEMPLATE
    tag_template: str = TAG_TEMPLATE
    external_scheme: str = "http"
    rollout_duration_s: int = 0
    """Over how many seconds traffic moves to a new revision; 0: at once."""


def parse_network(data: Mapping[str, str]) -> NetworkSettings:
    """The config map as a value; UserError where a key cannot be."""
    read = ConfigReader("config-network", data)
    settings = NetworkSettings(
        domain_template=read.text("domain-template", DOMAIN_TEMPLATE, old_key="domainTemplate"),
        tag_template=read.text("tag-template", TAG_TEMPLATE, old_key="tagTemplate"),
        external_scheme=read.text("default-external-scheme", "http", old_key="defaultExternalScheme"),
        rollout_duration_s=read.integer("rollout-duration", 0, old_key="rolloutDuration"),
    )
    # A template that cannot be filled in is found here, where the last good settings stay, and not at each route.
    names = {"Name": "name", "Namespace": "namespace", "Domain": "domain"}
    render_template(settings.domain_template, {**names, "Annotations": {}, "Labels": {}})
    render_template(settings.tag_template, {"Name": "name", "Tag": "tag"})
    return settings
