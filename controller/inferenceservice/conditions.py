"""Conditions the way Knative keeps them: sorted by type, with a time that moves only when something changes. (pure)"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from controller.api.meta import Condition
from controller.base.clock import rfc3339

TRUE: Final = "True"
FALSE: Final = "False"
UNKNOWN: Final = "Unknown"

READY: Final = "Ready"
PREDICTOR_READY: Final = "PredictorReady"
INGRESS_READY: Final = "IngressReady"
STOPPED: Final = "Stopped"
ROUTES_READY: Final = "RoutesReady"
LATEST_DEPLOYMENT_READY: Final = "LatestDeploymentReady"

_DECISIVE: Final = (INGRESS_READY, PREDICTOR_READY)
"""What Ready depends on; transformer and explainer count through the ingress, which waits for them."""


def condition(type_: str, status: str, *, reason: str | None = None, message: str | None = None) -> Condition:
    """A condition without its time; all but the decisive ones are informational, as in KServe."""
    built: dict[str, str] = {"type": type_, "status": status}
    if type_ not in (READY, *_DECISIVE):
        built["severity"] = "Info"
    if reason:
        built["reason"] = reason
    if message:
        built["message"] = message
    return Condition.parse(built)


def conclude(found: Iterable[Condition], before: Iterable[Condition], now_s: float) -> list[Condition]:
    """All conditions with Ready among them, each with the time at which it became what it is."""
    conditions = {item.type: item for item in found}
    conditions[READY] = _ready([conditions[type_] for type_ in _DECISIVE if type_ in conditions])
    known = list(before)
    return [since(conditions[type_], known, now_s) for type_ in sorted(conditions)]


def since(item: Condition, before: Iterable[Condition], now_s: float) -> Condition:
    """The condition with the time at which it became what it is, which is now if it was not so among those `before`."""
    known = next((old for old in before if old.type == item.type), None)
    if known is not None and known.lastTransitionTime and _content(known) == _content(item):
        return item.replace(lastTransitionTime=known.lastTransitionTime)
    return item.replace(lastTransitionTime=rfc3339(now_s))


def _ready(decisive: Iterable[Condition]) -> Condition:
    """True if all are; else what stands in the way says why, and a failure rather than what is merely not known yet."""
    unhappy = [item for item in decisive if item.status != TRUE]
    if not unhappy:
        return condition(READY, TRUE)
    failed = [item for item in unhappy if item.status == FALSE]
    # A failed predictor fails the ingress too, so the predictor, which comes last, knows the cause.
    chosen = failed[-1] if failed else unhappy[0]
    return condition(READY, chosen.status, reason=chosen.reason, message=chosen.message)


def _content(item: Condition) -> tuple[str, ...]:
    return item.status, item.severity or "", item.reason or "", item.message or ""
