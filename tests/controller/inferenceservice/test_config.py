"""Settings from KServe's and Knative's config maps."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
import yaml

from controller.api.core import ConfigMap
from controller.base.errors import UserError
from controller.inferenceservice.config import Settings, parse_settings
from tests.controller.inferenceservice.builders import ROOT, SHARED

FLAG = "kubernetes.podspec-init-containers"


def parse(**sections: Any) -> Settings:
    data = {name: value if isinstance(value, str) else orjson.dumps(value).decode() for name, value in sections.items()}
    return parse_settings(ConfigMap(data=data), {})


def knative(**maps: dict[str, str]) -> Settings:
    return parse_settings(None, {name.replace("_", "-"): ConfigMap(data=data) for name, data in maps.items()})


def shipped(text: str, name: str) -> ConfigMap:
    found = next(item for item in yaml.safe_load_all(text) if item and item["metadata"]["name"] == name)
    return ConfigMap.parse(found)


def test_without_a_map_everything_is_as_kserve_ships_it() -> None:
    settings = parse_settings(None, {"config-features": ConfigMap(data={FLAG: "enabled"})})
    assert settings == Settings()


@pytest.mark.skipif(not SHARED.exists(), reason="the reference recordings are not here")
def test_kserves_own_map_gives_the_defaults() -> None:
    text = (SHARED / "golden/kserve/cluster.yaml").read_text()
    maps = {name: shipped(text, name) for name in ("config-domain", "config-features", "config-autoscaler")}
    settings = parse_settings(shipped(text, "inferenceservice-config"), maps)
    assert settings == parse_settings(None, maps)
    assert settings.knative_domains == ("example.com",)


def test_the_map_of_a_onebox_can_be_read_and_allows_init_containers() -> None:
    kserve = (ROOT / "manifests/onebox/40-kserve.yaml").read_text()
    features = shipped((ROOT / "manifests/onebox/20-knative.yaml").read_text(), "config-features")
    settings = parse_settings(shipped(kserve, "inferenceservice-config"), {"config-features": features})
    assert settings.init_containers_allowed
    assert settings.ingress.ingress_domain == "localhost"


def test_sections_are_read() -> None:
    settings = parse(
        deploy={"defaultDeploymentMode": "RawDeployment"},
        ingress={
            "ingressGateway": "a/b",
            "localGatewayService": "lg",
            "urlScheme": "https",
            "disableIstioVirtualHost": True,
        },
        storageInitializer={"image": "i", "cpuLimit": "2"},
        inferenceService={
            "resource": {"cpuLimit": "3"},
            "serviceAnnotationDisallowedList": ["x"],
            "serviceLabelDisallowedList": ["y"],
        },
        explainers={"art": {"image": "art", "defaultImageVersion": "v1"}},
        security={"autoMountServiceAccountToken": False},
    )
    assert settings.defaults.deployment_mode == "Standard"
    assert (settings.ingress.ingress_gateway, settings.ingress.url_scheme) == ("a/b", "https")
    assert settings.ingress.knative_local_gateway_service == "lg"
    assert settings.ingress.disable_virtual_service
    assert (settings.storage_initializer.image, settings.storage_initializer.cpu_limit) == ("i", "2")
    assert (settings.defaults.cpu_limit, settings.defaults.memory_limit) == ("3", "2Gi")
    assert "x" in settings.annotations_disallowed
    assert "y" in settings.labels_disallowed
    assert (settings.art_image, settings.defaults.art_image_version) == ("art", "v1")
    assert not settings.defaults.automount_token


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"deploy": {"defaultDeploymentMode": "Cloud"}}, "defaultDeploymentMode = Cloud"),
        ({"ingress": "{not json"}, "key ingress: is no JSON"),
        ({"ingress": "[1]"}, "must be a JSON object"),
        ({"ingress": {"pathTemplate": "/x"}}, "pathTemplate needs ingressDomain"),
        ({"inferenceService": {"serviceLabelDisallowedList": "x"}}, "must be a list"),
    ],
)
def test_what_cannot_be_read_names_the_key(sections: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        parse(**sections)
    assert caught.value.reason == "InvalidConfig"


@pytest.mark.parametrize(
    ("value", "allowed"), [("enabled", True), ("Allowed", True), ("disabled", False), (None, False)]
)
def test_init_containers_are_allowed_by_knatives_flag(value: str | None, allowed: bool) -> None:
    assert knative(config_features={FLAG: value} if value else {}).init_containers_allowed is allowed


def test_the_example_in_a_knative_map_is_no_domain() -> None:
    assert knative(config_domain={"_example": "x", "a.org": "", "b.org": ""}).knative_domains == ("a.org", "b.org")


def test_zero_initial_scale_is_knatives_to_allow() -> None:
    assert knative(config_autoscaler={"allow-zero-initial-scale": "true"}).zero_initial_scale_allowed
    assert not knative().zero_initial_scale_allowed
