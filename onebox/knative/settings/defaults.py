"""config-defaults: what admission fills into a revision's spec, and the limits it holds it to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onebox.knative.settings.values import ConfigReader


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionDefaults:
    """Knative's config-defaults; all defaults are Knative's."""

    timeout_s: int = 300
    """timeoutSeconds where none, or 0, is given."""
    timeout_s_max: int = 600
    response_start_timeout_s: int = 300
    """Filled in only where it is shorter than the revision's timeout; 0: never."""
    idle_timeout_s: int = 0
    """Filled in only where it is shorter than the revision's timeout; 0: never."""
    container_concurrency: int = 0
    """0: no limit."""
    container_concurrency_max: int = 1000
    allow_container_concurrency_zero: bool = True
    container_name_template: str = "user-container"
    init_container_name_template: str = "init-container"
    enable_service_links: bool | None = False
    """None: left as the user has it, which Kubernetes takes as true."""
    requests: Mapping[str, str] | None = None
    """Quantities by resource name for containers that ask for none."""
    limits: Mapping[str, str] | None = None


def parse_defaults(data: Mapping[str, str]) -> RevisionDefaults:
    """The config map as a value; UserError where a key cannot be."""
    read = ConfigReader("config-defaults", data)
    timeout_s = read.integer("revision-timeout-seconds", 300)
    settings = RevisionDefaults(
        timeout_s=timeout_s,
        timeout_s_max=read.integer("max-revision-timeout-seconds", 600),
        response_start_timeout_s=read.integer("revision-response-start-timeout-seconds", timeout_s),
        idle_timeout_s=read.integer("revision-idle-timeout-seconds", 0),
        container_concurrency=read.integer("container-concurrency", 0),
        container_concurrency_max=read.integer("container-concurrency-max-limit", 1000, minimum=1),
        allow_container_concurrency_zero=read.flag("allow-container-concurrency-zero", True),
        container_name_template=read.text("container-name-template", "user-container"),
        init_container_name_template=read.text("init-container-name-template", "init-container"),
        enable_service_links=_service_links(read),
        requests=_quantities(read, "request"),
        limits=_quantities(read, "limit"),
    )
    _check_order(read, settings)
    return settings


def _check_order(read: ConfigReader, settings: RevisionDefaults) -> None:
    for key, value, limit_key, limit in (
        ("revision-timeout-seconds", settings.timeout_s, "max-revision-timeout-seconds", settings.timeout_s_max),
        (
            "revision-response-start-timeout-seconds",
            settings.response_start_timeout_s,
            "revision-timeout-seconds",
            settings.timeout_s,
        ),
        ("revision-idle-timeout-seconds", settings.idle_timeout_s, "revision-timeout-seconds", settings.timeout_s),
        (
            "container-concurrency",
            settings.container_concurrency,
            "container-concurrency-max-limit",
            settings.container_concurrency_max,
        ),
    ):
        if value > limit:
            read.reject(key, str(value), f"must be at most {limit_key} = {limit}")


def _service_links(read: ConfigReader) -> bool | None:
    raw = read.text("enable-service-links", "false").lower()
    return {"true": True, "false": False}.get(raw)


def _quantities(read: ConfigReader, what: str) -> Mapping[str, str] | None:
    names = ("cpu", "memory", "ephemeral-storage")
    found = {name: value for name in names if (value := read.quantity(f"revision-{name}-{what}"))}
    return found or None
