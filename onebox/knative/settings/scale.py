"""The keys of config-autoscaler that admission and the Deployment read; the autoscaler has the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onebox.knative.settings.values import ConfigReader

KPA_CLASS = "kpa.autoscaling.knative.dev"
HPA_CLASS = "hpa.autoscaling.knative.dev"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleSettings:
    """All defaults are Knative's."""

    initial_scale: int = 1
    """Pods that a new revision starts with."""
    allow_zero_initial_scale: bool = False
    max_scale_limit: int = 0
    """Above zero: every revision needs a max-scale, and at most this one."""
    autoscaler_class: str = KPA_CLASS


def parse_scale(data: Mapping[str, str]) -> ScaleSettings:
    """The config map as a value; UserError where a key cannot be."""
    read = ConfigReader("config-autoscaler", data)
    zero = read.flag("allow-zero-initial-scale", False)
    return ScaleSettings(
        initial_scale=read.integer("initial-scale", 1, minimum=0 if zero else 1),
        allow_zero_initial_scale=zero,
        max_scale_limit=read.integer("max-scale-limit", 0),
        autoscaler_class=read.text("pod-autoscaler-class", KPA_CLASS),
    )
