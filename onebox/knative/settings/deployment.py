"""config-deployment: what a revision's Deployment gets besides the revision's own spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onebox.knative.settings.values import ConfigReader

_AFFINITIES = ("prefer-spread-revision-over-nodes", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSettings:
    """Knative's config-deployment; defaults are Knative's, the image's is onebox's own."""

    queue_image: str = "ladle/queue:latest"
    """Knative's install sets it; it has no default of its own."""
    progress_deadline_s: int = 600
    """Seconds without progress after which a Deployment has failed."""
    spread_over_nodes: bool = True
    pod_is_always_schedulable: bool = False
    """A pod that cannot be scheduled now is no failure: something will make room for it."""
    queue_requests: Mapping[str, str] = field(default_factory=lambda: {"cpu": "25m"})
    queue_limits: Mapping[str, str] = field(default_factory=dict)
    queue_root_ca: str = ""
    queue_tls_min_version: str = ""
    queue_tls_max_version: str = ""
    queue_tls_cipher_suites: str = ""
    queue_tls_curve_preferences: str = ""


def parse_deployment(data: Mapping[str, str]) -> DeploymentSettings:
    """The config map as a value; UserError where a key cannot be."""
    read = ConfigReader("config-deployment", data)
    affinity = read.text("default-affinity-type", _AFFINITIES[0])
    if affinity not in _AFFINITIES:
        read.reject("default-affinity-type", affinity, f"must be one of {', '.join(_AFFINITIES)}")
    return DeploymentSettings(
        queue_image=read.text("queue-sidecar-image", "ladle/queue:latest", old_key="queueSidecarImage"),
        progress_deadline_s=_progress_deadline_s(read),
        spread_over_nodes=affinity == _AFFINITIES[0],
        pod_is_always_schedulable=read.flag("pod-is-always-schedulable", False),
        queue_requests=_quantities(read, "request", {"cpu": "25m"}),
        queue_limits=_quantities(read, "limit", {}),
        queue_root_ca=read.text("queue-sidecar-rootca", ""),
        queue_tls_min_version=read.text("queue-sidecar-tls-min-version", ""),
        queue_tls_max_version=read.text("queue-sidecar-tls-max-version", ""),
        queue_tls_cipher_suites=read.text("queue-sidecar-tls-cipher-suites", ""),
        queue_tls_curve_preferences=read.text("queue-sidecar-tls-curve-preferences", ""),
    )


def _progress_deadline_s(read: ConfigReader) -> int:
    deadline_s = read.duration_s("progress-deadline", "600s", old_key="progressDeadline")
    if deadline_s <= 0 or deadline_s != int(deadline_s):
        read.reject("progress-deadline", f"{deadline_s}s", "must be a whole number of seconds above zero")
    return int(deadline_s)


def _quantities(read: ConfigReader, what: str, defaults: Mapping[str, str]) -> Mapping[str, str]:
    old = {"cpu": "CPU", "memory": "Memory", "ephemeral-storage": "EphemeralStorage"}
    found = {
        name: read.quantity(
            f"queue-sidecar-{name}-{what}", defaults.get(name), old_key=f"queueSidecar{word}{what.title()}"
        )
        for name, word in old.items()
    }
    return {name: value for name, value in found.items() if value}
