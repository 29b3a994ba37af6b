"""config-autoscaler: Knative's defaults and ranges, and onebox's own map."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from controller.base.errors import Invalid
from onebox.knative.autoscaler.settings import AutoscalerSettings, parse_autoscaler_settings
from onebox.knative.duration import format_duration, parse_duration_s

SHIPPED = Path(__file__).parents[3] / "manifests/onebox/20-knative.yaml"

DEFAULTS = {
    "container-concurrency-target-percentage": "70",
    "container-concurrency-target-default": "100",
    "requests-per-second-target-default": "200",
    "target-burst-capacity": "211",
    "stable-window": "60s",
    "panic-window-percentage": "10.0",
    "panic-threshold-percentage": "200.0",
    "max-scale-up-rate": "1000.0",
    "max-scale-down-rate": "2.0",
    "enable-scale-to-zero": "true",
    "scale-to-zero-grace-period": "30s",
    "scale-to-zero-pod-retention-period": "0s",
    "scale-down-delay": "0s",
    "pod-autoscaler-class": "kpa.autoscaling.knative.dev",
    "activator-capacity": "100.0",
    "initial-scale": "1",
    "allow-zero-initial-scale": "false",
    "min-scale": "0",
    "max-scale": "0",
    "max-scale-limit": "0",
}
"""spec/knative.md 2.8 of the reference, as the config map spells it."""


def test_the_defaults_are_knatives_and_every_key_is_read() -> None:
    assert parse_autoscaler_settings({}) == parse_autoscaler_settings(DEFAULTS) == AutoscalerSettings()
    assert {name.replace("_", "-") for name in AutoscalerSettings.__dataclass_fields__} == set(DEFAULTS)


def test_oneboxs_own_map_is_valid_and_takes_the_activator_out_of_the_path() -> None:
    maps = [item for item in yaml.safe_load_all(SHIPPED.read_text()) if item["metadata"]["name"] == "config-autoscaler"]
    settings = parse_autoscaler_settings(maps[0]["data"])
    assert settings.target_burst_capacity == 0
    assert settings.stable_window == 60


def test_a_small_percentage_is_a_fraction() -> None:
    settings = parse_autoscaler_settings({"container-concurrency-target-percentage": "0.5"})
    assert settings.container_concurrency_target_percentage == 50
    assert parse_autoscaler_settings({"unknown-key": "x", "enable-scale-to-zero": "F"}).enable_scale_to_zero is False


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("container-concurrency-target-percentage", "0"),
        ("container-concurrency-target-percentage", "101"),
        ("container-concurrency-target-default", "0.001"),
        ("requests-per-second-target-default", "0"),
        ("target-burst-capacity", "-2"),
        ("stable-window", "5s"),
        ("stable-window", "61m"),
        ("stable-window", "6500ms"),
        ("panic-window-percentage", "0.9"),
        ("panic-threshold-percentage", "0"),
        ("max-scale-up-rate", "1"),
        ("max-scale-down-rate", "1"),
        ("scale-to-zero-grace-period", "0s"),
        ("scale-to-zero-pod-retention-period", "-1s"),
        ("scale-down-delay", "-1s"),
        ("scale-down-delay", "1.5s"),
        ("activator-capacity", "0.5"),
        ("initial-scale", "0"),
        ("min-scale", "-1"),
        ("max-scale", "-1"),
        ("max-scale-limit", "-1"),
        ("max-scale-limit", "5"),
        ("enable-scale-to-zero", "maybe"),
        ("min-scale", "1_0"),
        ("activator-capacity", "inf"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_key(key: str, value: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_autoscaler_settings({key: value})
    assert any(error.field in (key, "max-scale") for error in refused.value.errors)


def test_bounds_must_fit_each_other() -> None:
    with pytest.raises(Invalid, match="min-scale = 5, must not exceed max-scale"):
        parse_autoscaler_settings({"min-scale": "5", "max-scale": "3"})
    assert parse_autoscaler_settings({"max-scale": "3", "max-scale-limit": "5"}).max_scale_limit == 5


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("90s", 90), ("1h30m", 5400), (".5s", 0.5), ("1.5s", 1.5), ("-2s", -2), ("+2s", 2), ("100ms", 0.1)],
)
def test_durations_are_gos(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "s", "1 s", "1d", "--1s", "1s2"])
def test_what_go_does_not_read_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration_s(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (6, "6s"), (3600, "1h0m0s"), (90.5, "1m30.5s"), (0.25, "250ms"), (-1, "-1s"), (2e-6, "2µs")],
)
def test_durations_are_printed_as_go_prints_them(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
    assert parse_duration_s(text) == pytest.approx(seconds)
