"""Knative's config maps as settings, and templates."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from controller.base.errors import UserError
from onebox.knative.settings import Feature, ServingSettings, parse_settings, shipped_settings
from onebox.knative.settings.domain import DomainSettings, parse_domain
from onebox.knative.templates import render_template


def test_no_config_maps_are_knatives_defaults() -> None:
    assert parse_settings({}) == ServingSettings(domain=DomainSettings({}))


def test_shipped_settings_are_what_the_install_says() -> None:
    shipped = shipped_settings()
    assert shipped.domain.domain_for({}) == "localhost"
    assert shipped.scale.target_burst_capacity == 0
    assert shipped.features.enabled(Feature.INIT_CONTAINERS)
    assert shipped.deployment.queue_image == "ladle/queue:latest"
    assert not shipped.features.permitted(Feature.HOST_PATH)


@pytest.mark.parametrize(
    ("config_map", "key", "value"),
    [
        ("config-defaults", "revision-timeout-seconds", "soon"),
        ("config-defaults", "revision-timeout-seconds", "601"),
        ("config-defaults", "revision-idle-timeout-seconds", "301"),
        ("config-defaults", "container-concurrency", "1001"),
        ("config-defaults", "revision-cpu-request", "much"),
        ("config-deployment", "progress-deadline", "0s"),
        ("config-deployment", "progress-deadline", "1500ms"),
        ("config-deployment", "default-affinity-type", "everywhere"),
        ("config-domain", "example.com", "selector: 3"),
        ("config-network", "rollout-duration", "-1"),
        ("config-network", "domain-template", "{{.Nonsense}}"),
    ],
)
def test_a_value_that_cannot_be_is_named(config_map: str, key: str, value: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_settings({config_map: {key: value}})
    assert key.rpartition("-")[0] in str(caught.value) or "template" in str(caught.value)


def test_old_keys_still_count() -> None:
    settings = parse_settings({"config-deployment": {"queueSidecarImage": "q", "progressDeadline": "30s"}})
    assert (settings.deployment.queue_image, settings.deployment.progress_deadline_s) == ("q", 30)


def test_quantities_of_the_queue_proxy() -> None:
    settings = parse_settings({"config-deployment": {"queue-sidecar-memory-limit": "1Gi"}})
    assert settings.deployment.queue_limits == {"memory": "1Gi"}
    assert settings.deployment.queue_requests == {"cpu": "25m"}


def test_flags_in_any_case_and_nonsense_as_absent() -> None:
    features = parse_settings({"config-features": {"multi-container": "DISABLED", Feature.AFFINITY: "maybe"}}).features
    assert not features.permitted(Feature.MULTI_CONTAINER)
    assert not features.permitted(Feature.AFFINITY)


def test_the_domain_with_the_most_labels_wins() -> None:
    domains = parse_domain(
        {
            "_example": "nothing",
            "b.org": "",
            "a.org": "",
            "team.org": "selector:\n  team: ml",
            "both.org": "selector:\n  team: ml\n  app: x",
        }
    )
    assert domains.domain_for({}) == "a.org"
    assert domains.domain_for({"team": "ml"}) == "team.org"
    assert domains.domain_for({"team": "ml", "app": "x"}) == "both.org"
    assert domains.domain_for({"networking.knative.dev/visibility": "cluster-local"}) == "svc.cluster.local"


def test_templates() -> None:
    values: dict[str, str | Mapping[str, str]] = {"Name": "n", "Labels": {"a": "b"}, "Annotations": {}}
    assert render_template('{{ .Name }}.{{index .Labels "a"}}.{{.Labels.a}}{{.Annotations.none}}', values) == "n.b.b"
    with pytest.raises(UserError, match="Nothing"):
        render_template("{{.Nothing}}", values)
