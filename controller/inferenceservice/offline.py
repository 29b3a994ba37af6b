"""The controller's decisions without a cluster: what `ladle render` prints. (pure)

Manifests in, children out, by the same functions that run in the controller. What exists in the cluster can be given as
objects; settings and runtimes that they do not hold are those that a new onebox starts with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from controller.api.inferenceservice import KIND as SERVICE_KIND
from controller.base.errors import Invalid, UserError
from controller.base.json import JsonObject, JsonView
from controller.inferenceservice.later_kinds import NOT_BUILT, plan_later_kind
from controller.inferenceservice.offline_admission import admitted
from controller.inferenceservice.offline_world import KSERVE_GROUP, OfflineWorld, is_a, placed
from controller.inferenceservice.plan import plan_inference_service
from controller.inferenceservice.snapshot import Snapshot
from controller.reconcile.plan import Plan

NOWHERE_UID: Final = "00000000-0000-0000-0000-000000000000"
"""Stands for the uid that only a stored service has."""


def render(
    objects: Iterable[JsonView],
    *,
    existing: Iterable[JsonView] = (),
    namespace: str = "default",
    with_status: bool = False,
) -> list[JsonObject]:
    """The children of the InferenceServices in `objects`, and with `with_status` these themselves with their status.

    Kinds that nothing is made of yet show their status too. Runtimes among `objects` count as well. UserError, whose subject
    is the object, where a manifest is refused or (without `with_status`) cannot be reconciled.
    """
    rendered: list[JsonObject] = []
    given = list(objects)
    for stored, snapshot in snapshots(given, existing=existing, namespace=namespace):
        plan = plan_inference_service(snapshot)
        if plan.keep_children and not with_status:
            error = _blocking(plan)
            error.subject = subject_of(stored)
            raise error
        rendered += [dict(child.manifest) for child in plan.children]
        if with_status:
            rendered.append({**stored, "status": dict(plan.status or {})})
    if with_status:
        rendered += _later_kinds(given, namespace)
    return rendered


def _later_kinds(objects: Iterable[JsonView], namespace: str) -> Iterator[JsonObject]:
    """The objects of kinds that are not built yet, with the status that says so."""
    for item in objects:
        why = next((text for kind, text in NOT_BUILT.items() if is_a(item, kind.group, kind.kind)), None)
        if why is not None:
            stored = _with_identity(_admitted(placed(item, namespace), OfflineWorld((), ())))
            yield {**stored, "status": dict(plan_later_kind(stored, why, 0.0).status or {})}


def subject_of(manifest: JsonView) -> str:
    """What messages call an object."""
    return f"{manifest['kind']}/{manifest['metadata'].get('name', '')}"


def snapshots(
    objects: Iterable[JsonView], *, existing: Iterable[JsonView] = (), namespace: str = "default"
) -> Iterator[tuple[JsonObject, Snapshot]]:
    """Each InferenceService in `objects` as it would be stored, and what the controller would see of it; as for `render`."""
    manifests = [_placed(item, namespace) for item in objects]
    world = OfflineWorld([placed(item, namespace) for item in existing], manifests)
    for manifest in manifests:
        if is_a(manifest, KSERVE_GROUP, SERVICE_KIND):
            stored = _with_identity(_admitted(manifest, world))
            yield stored, world.snapshot(stored)


def _placed(manifest: JsonView, namespace: str) -> JsonObject:
    try:
        return placed(manifest, namespace)
    except Invalid as error:
        error.subject = str(manifest.get("kind") or "object")
        raise


def _admitted(manifest: JsonObject, world: OfflineWorld) -> JsonObject:
    try:
        return admitted(manifest, world)
    except Invalid as error:
        error.subject = subject_of(manifest)
        raise


def _with_identity(stored: JsonObject) -> JsonObject:
    meta = {"uid": NOWHERE_UID, "generation": 1, **stored["metadata"]}
    return {**stored, "metadata": meta}


def _blocking(plan: Plan) -> UserError:
    """Why a service cannot be reconciled, as its status would say."""
    warning = next((event for event in plan.events if event.type == "Warning"), None)
    return UserError(
        warning.reason if warning else "NotReconciled", warning.message if warning else "it is being deleted"
    )
