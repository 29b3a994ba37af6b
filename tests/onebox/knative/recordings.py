"""The reference recordings of Knative, and the settings under which they were made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from onebox.knative.settings import ServingSettings, parse_settings

RECORDINGS = Path(__file__).parents[3] / "../shared/golden/knative"
SERVICES = ("autoscaled", "h2c", "init", "local", "named", "plain", "rps")
RECORDED_AT = "2026-11-20T12:00:00Z"
RECORDED_UID = "<uid>"
LONG = "long-name-that-goes-well-beyond-what-fits-in-a-label-value-abc"

needs_recordings = pytest.mark.skipif(
    not RECORDINGS.is_dir(), reason="the reference recordings are not on this machine"
)


def recorded_settings() -> ServingSettings:
    """What the recordings' README names; all else is Knative's default."""
    return parse_settings(
        {
            "config-domain": {"example.com": ""},
            "config-deployment": {"queue-sidecar-image": "dev.local/queue:1"},
            "config-features": {
                "kubernetes.podspec-init-containers": "enabled",
                "kubernetes.podspec-persistent-volume-claim": "enabled",
                "kubernetes.podspec-persistent-volume-write": "enabled",
            },
        }
    )


def load(path: str) -> list[dict[str, Any]]:
    """The objects of one recorded file; recorded times are placeholders, and become one time, as uids become one."""
    text = (RECORDINGS / path).read_text().replace("<time>", RECORDED_AT)
    objects = [loaded for loaded in yaml.load_all(text, Loader=_Loader) if loaded]
    for loaded in objects:
        loaded["metadata"]["uid"] = RECORDED_UID
    return objects


class _Loader(yaml.SafeLoader):
    """Reads times as text, as JSON has them."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def find(objects: list[dict[str, Any]], kind: str, name: str = "", *, group: str = "") -> dict[str, Any]:
    """The one object of this kind (and name, and API group) in a recording."""
    (found,) = [
        obj
        for obj in objects
        if obj["kind"] == kind and name in ("", obj["metadata"]["name"]) and obj["apiVersion"].startswith(group)
    ]
    return found
