"""Knative's config maps as types: one module for each map, and the reading of all of them at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files

import yaml

from onebox.knative.autoscaler.settings import AutoscalerSettings, parse_autoscaler_settings
from onebox.knative.settings.collection import CollectionSettings, parse_collection
from onebox.knative.settings.defaults import RevisionDefaults, parse_defaults
from onebox.knative.settings.deployment import DeploymentSettings, parse_deployment
from onebox.knative.settings.domain import DomainSettings, parse_domain
from onebox.knative.settings.features import Feature, Features, parse_features
from onebox.knative.settings.network import NetworkSettings, parse_network

__all__ = [
    "CONFIG_NAMESPACE",
    "CollectionSettings",
    "DeploymentSettings",
    "DomainSettings",
    "Feature",
    "Features",
    "NetworkSettings",
    "RevisionDefaults",
    "ServingSettings",
    "parse_settings",
    "shipped_settings",
]

CONFIG_NAMESPACE = "knative-serving"
ConfigData = Mapping[str, Mapping[str, str]]
"""The data of config maps by the map's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingSettings:
    """All that serving reads from config maps; a map that does not exist has Knative's defaults."""

    collection: CollectionSettings = field(default_factory=CollectionSettings)
    defaults: RevisionDefaults = field(default_factory=RevisionDefaults)
    deployment: DeploymentSettings = field(default_factory=DeploymentSettings)
    domain: DomainSettings = field(default_factory=DomainSettings)
    features: Features = field(default_factory=Features)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    scale: AutoscalerSettings = field(default_factory=AutoscalerSettings)


def parse_settings(maps: ConfigData) -> ServingSettings:
    """The settings in these config maps; UserError names the map and the key of a value that cannot be."""
    return ServingSettings(
        collection=parse_collection(maps.get("config-gc", {})),
        defaults=parse_defaults(maps.get("config-defaults", {})),
        deployment=parse_deployment(maps.get("config-deployment", {})),
        domain=parse_domain(maps.get("config-domain", {})),
        features=parse_features(maps.get("config-features", {})),
        network=parse_network(maps.get("config-network", {})),
        scale=parse_autoscaler_settings(maps.get("config-autoscaler", {})),
    )


def shipped_settings() -> ServingSettings:
    """The settings of a new onebox, for work that has no API server to ask (`ladle validate`)."""
    text = files("manifests").joinpath("onebox", "20-knative.yaml").read_text()
    objects = [loaded for loaded in yaml.safe_load_all(text) if loaded]
    return parse_settings({loaded["metadata"]["name"]: loaded.get("data") or {} for loaded in objects})
