"""config-gc: how many revisions that nobody routes to are kept, and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onebox.knative.duration import parse_duration_s
from onebox.knative.settings.values import ConfigReader

_DISABLED = "disabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionSettings:
    """Knative's config-gc; all defaults are Knative's. None: that limit does not exist."""

    retain_since_create_s: float | None = 48 * 3600.0
    retain_since_active_s: float | None = 15 * 3600.0
    kept_min: int = 20
    """Revisions out of use that stay in any case."""
    kept_max: int | None = 1000


def parse_collection(data: Mapping[str, str]) -> CollectionSettings:
    """The config map as a value; UserError where a key cannot be."""
    read = ConfigReader("config-gc", data)
    kept_min = read.integer("min-non-active-revisions", 20)
    settings = CollectionSettings(
        retain_since_create_s=_duration_s(read, "retain-since-create-time", "48h"),
        retain_since_active_s=_duration_s(read, "retain-since-last-active-time", "15h"),
        kept_min=kept_min,
        kept_max=_count(read, "max-non-active-revisions", 1000),
    )
    if settings.kept_max is not None and kept_min > settings.kept_max:
        limit = f"must be at most max-non-active-revisions = {settings.kept_max}"
        read.reject("min-non-active-revisions", str(kept_min), limit)
    return settings


def _duration_s(read: ConfigReader, key: str, default: str) -> float | None:
    raw = read.text(key, "") or default
    if raw.lower() == _DISABLED:
        return None
    try:
        duration_s = parse_duration_s(raw)
    except ValueError:
        duration_s = -1.0
    if duration_s < 0:
        read.reject(key, raw, "must be a duration such as 48h, or `disabled`")
    return duration_s


def _count(read: ConfigReader, key: str, default: int) -> int | None:
    raw = read.text(key, "") or str(default)
    return None if raw.lower() == _DISABLED else read.integer(key, default)
