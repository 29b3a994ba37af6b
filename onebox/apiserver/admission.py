"""Which kinds have an admission of their own, and how to find it.

The modules are imported with the first object of a kind: they bring pydantic models along, which a server that only stores
Kubernetes' own kinds never needs.
"""

from __future__ import annotations

from importlib import import_module

from controller.api.admission import Admit

_KNATIVE = "serving.knative.dev"
_KSERVE = "serving.kserve.io"

_PLACES: dict[tuple[str, str], tuple[str, str]] = {
    (_KSERVE, "InferenceService"): ("controller.api.validation", "admit_inference_service"),
    (_KSERVE, "ServingRuntime"): ("controller.api.validation", "admit_serving_runtime"),
    (_KSERVE, "ClusterServingRuntime"): ("controller.api.validation", "admit_serving_runtime"),
    (_KNATIVE, "Service"): ("onebox.knative.admission", "admit_knative_service"),
    (_KNATIVE, "Configuration"): ("onebox.knative.admission", "admit_configuration"),
    (_KNATIVE, "Revision"): ("onebox.knative.admission", "admit_revision"),
    (_KNATIVE, "Route"): ("onebox.knative.admission", "admit_route"),
}


def admission_of(group: str, kind: str) -> Admit | None:
    """The admission of a kind; None where its schema is all there is."""
    place = _PLACES.get((group, kind))
    if place is None:
        return None
    try:
        module = import_module(place[0])
    except ModuleNotFoundError:
        return None
    admit: Admit | None = getattr(module, place[1], None)
    return admit
