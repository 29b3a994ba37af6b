"""What the controller will have written once everything is ready, from manifests alone. (pure)

A VirtualService comes only when the Knative Services that it leads to are ready. Where no cluster is given, they are taken
to be ready: the answer to «what will there be?» rather than «what is written first?».
"""

from __future__ import annotations

from collections.abc import Iterable

from controller.api import knative
from controller.base.json import JsonObject, JsonView
from controller.base.names import child_name
from controller.inferenceservice.offline import render

DOMAIN = "localhost"
"""The domain of a onebox; a cluster's own stands in its config-domain, which this knows nothing of."""


def render_once_ready(
    objects: Iterable[JsonView],
    *,
    existing: Iterable[JsonView] = (),
    namespace: str = "default",
    with_status: bool = False,
) -> list[JsonObject]:
    """All children of the InferenceServices in `objects`, beside what is in `existing`; UserError as for `render`."""
    manifests, given = list(objects), list(existing)
    # Knative Services first, then what waits for them to be ready; the last pass sees both.
    world = given
    for _ in range(2):
        # With the status, a service that cannot be made shows it at the end, and hides nothing of the others.
        made = render(manifests, existing=world, namespace=namespace, with_status=with_status)
        world = [*given, *(_as_ready(item) for item in made if "ownerReferences" in item["metadata"])]
    return render(manifests, existing=world, namespace=namespace, with_status=with_status)


def _as_ready(service: JsonObject) -> JsonObject:
    """The child as it is once all is well: a Knative Service with the status of one whose first revision serves."""
    if not service["apiVersion"].startswith(knative.GROUP):
        return service
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    revision = child_name(name, "-00001")
    status = {
        "observedGeneration": 1,
        "conditions": [{"type": type_, "status": "True"} for type_ in ("ConfigurationsReady", "Ready", "RoutesReady")],
        "url": f"http://{name}.{namespace}.{DOMAIN}",
        "address": {"url": f"http://{name}.{namespace}.svc.cluster.local"},
        "latestCreatedRevisionName": revision,
        "latestReadyRevisionName": revision,
        "traffic": [{"revisionName": revision, "latestRevision": True, "percent": 100}],
    }
    return {**service, "metadata": {**service["metadata"], "generation": 1}, "status": status}
