"""Objects for tests, with as little in them as each test needs."""

from __future__ import annotations

from typing import Any

from controller.api.knative import Configuration, Revision, Route, Service

NOW_S = 1_795_000_000.0


def meta(name: str, *, owner: str = "", **fields: Any) -> dict[str, Any]:
    """Metadata of an object whose uid is its name in capitals; `owner` is `Kind/name` of its controller."""
    found: dict[str, Any] = {"name": name, "namespace": "ns", "uid": name.upper(), "generation": 1, **fields}
    if owner:
        kind, _, owner_name = owner.partition("/")
        found["ownerReferences"] = [
            {
                "apiVersion": "serving.knative.dev/v1",
                "kind": kind,
                "name": owner_name,
                "uid": owner_name.upper(),
                "controller": True,
            }
        ]
    return found


def status(
    ready: str = "", *, reason: str = "", message: str = "", generation: int = 1, **fields: Any
) -> dict[str, Any]:
    """A status with one condition, Ready; none where `ready` is empty."""
    condition = {"type": "Ready", "status": ready, "reason": reason, "message": message}
    return {"observedGeneration": generation, "conditions": [condition] if ready else [], **fields}


def serving(kind: str, metadata: dict[str, Any], spec: dict[str, Any], found: dict[str, Any] | None) -> dict[str, Any]:
    """An object of serving.knative.dev."""
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": kind,
        "metadata": metadata,
        "spec": spec,
        "status": found or {},
    }


TEMPLATE = {
    "metadata": {},
    "spec": {"containers": [{"name": "user-container", "image": "app:1"}], "timeoutSeconds": 300},
}


def service(*, template: dict[str, Any] | None = None, **spec: Any) -> Service:
    spec.setdefault("traffic", [{"latestRevision": True, "percent": 100}])
    return Service.parse(serving("Service", meta("svc"), {"template": template or TEMPLATE, **spec}, None))


def configuration(
    *, generation: int = 1, template: dict[str, Any] | None = None, found: dict[str, Any] | None = None, **fields: Any
) -> Configuration:
    metadata = meta("svc", owner="Service/svc", generation=generation, **fields)
    return Configuration.parse(serving("Configuration", metadata, {"template": template or TEMPLATE}, found))


def revision(
    name: str, *, generation: int = 1, ready: str = "True", owner: str = "Configuration/svc", **labels: str
) -> Revision:
    """A revision of the Configuration `svc`; `labels` are Knative's own, by the word after the slash."""
    words = {"configuration": "svc", "configurationGeneration": str(generation), "service": "svc", **labels}
    metadata = meta(name, owner=owner, labels={f"serving.knative.dev/{word}": value for word, value in words.items()})
    return Revision.parse(serving("Revision", metadata, TEMPLATE["spec"], status(ready)))


def route(
    *traffic: dict[str, Any], labels: dict[str, str] | None = None, found: dict[str, Any] | None = None, **fields: Any
) -> Route:
    targets = list(traffic) or [{"configurationName": "svc", "latestRevision": True, "percent": 100}]
    metadata = meta("svc", owner="Service/svc", labels=labels or {"serving.knative.dev/service": "svc"}, **fields)
    return Route.parse(serving("Route", metadata, {"traffic": targets}, found))
