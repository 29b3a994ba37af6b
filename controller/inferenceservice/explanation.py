"""Which runtimes an InferenceService could have, and why it gets the one that it gets: `ladle explain-runtime`. (pure)

The answer comes from the selection that the controller makes (runtimes.py), not from a second reading of its rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from controller.api.servingruntime import ServingRuntime
from controller.base.json import JsonObject, JsonView
from controller.inferenceservice.offline import snapshots
from controller.inferenceservice.runtimes import Considered, Selection, explain_selection


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What one InferenceService asked for and what it got."""

    namespace: str
    name: str
    selection: Selection | None
    """None for a predictor with containers of its own, which needs no runtime."""

    def to_json(self) -> JsonObject:
        """The explanation as `--json` prints it: `chosen` is null, and `refusal` is there, where no runtime fits."""
        told: JsonObject = {"namespace": self.namespace, "name": self.name}
        if self.selection is None:
            return {**told, "needsRuntime": False}
        selection = self.selection
        choice = selection.choice
        told |= {"needsRuntime": True, "wanted": selection.wanted, "chosen": None}
        if choice is not None:
            told["chosen"] = {**_identity(choice.runtime), "protocolVersion": choice.protocol, "why": selection.why}
            if choice.missing:
                told["missing"] = choice.missing
        if selection.refusal is not None:
            told["refusal"] = {"reason": selection.refusal.reason, "message": selection.refusal.message}
        told["considered"] = [_considered(item) for item in selection.considered]
        return told


def explain_runtimes(
    objects: Iterable[JsonView], *, existing: Iterable[JsonView] = (), namespace: str = "default"
) -> list[Explanation]:
    """One explanation for each InferenceService in `objects`; UserError where one is refused at admission."""
    return [
        Explanation(
            namespace=snapshot.service.metadata.namespace,
            name=snapshot.service.metadata.name,
            selection=explain_selection(predictor.model, snapshot.runtimes, multi_node=predictor.workerSpec is not None)
            if predictor.model is not None
            else None,
        )
        for _, snapshot in snapshots(objects, existing=existing, namespace=namespace)
        for predictor in (snapshot.service.spec.predictor,)
    ]


def _considered(item: Considered) -> JsonObject:
    told: JsonObject = {**_identity(item.runtime), "chosen": not item.against}
    return {**told, "against": item.against} if item.against else told


def _identity(runtime: ServingRuntime) -> JsonObject:
    return {"kind": runtime.kind, "name": runtime.metadata.name}
