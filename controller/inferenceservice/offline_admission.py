"""What admission would say about manifests, without a cluster: what `ladle validate` prints. (pure)"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import orjson

from controller.api.admission import LOOKS_AT_OTHERS, AdmissionRequest, Admit, Operation
from controller.api.defaulting import Defaults
from controller.api.inferencegraph import KIND as GRAPH_KIND
from controller.api.inferenceservice import KIND as SERVICE_KIND
from controller.api.servingruntime import CLUSTER_KIND
from controller.api.servingruntime import KIND as RUNTIME_KIND
from controller.api.structural import StructuralSchema
from controller.api.trainedmodel import KIND as MODEL_KIND
from controller.api.validation import inference_service_admission
from controller.api.validation_graphs import admit_inference_graph
from controller.api.validation_runtimes import serving_runtime_admission
from controller.api.validation_trained_models import admit_trained_model
from controller.base.errors import FieldError, Invalid, UserError
from controller.base.json import JsonObject, JsonView
from controller.inferenceservice.offline_world import KSERVE_GROUP, OfflineWorld, is_a, placed
from controller.kube.resources import resource_type_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What admission says about one object."""

    kind: str
    name: str
    errors: tuple[FieldError, ...] = ()
    defaulted: JsonObject | None = None
    """The object as it would be stored; None where it is refused."""

    def __str__(self) -> str:
        what = f"{self.kind}/{self.name}"
        if not self.errors:
            return f"accepted {what}"
        return "\n".join(f"refused {what}: {error}" for error in self.errors)


def validate(
    objects: Iterable[JsonView],
    *,
    existing: Iterable[JsonView] = (),
    old: JsonView | None = None,
    namespace: str = "default",
) -> Iterator[Verdict]:
    """A verdict for each object, as if they were applied one after the other to a cluster with the objects `existing`.

    `old` is the stored object that the one of its kind and name would replace; so is one among `existing`. Objects of kinds
    that have no admission are judged by their schema alone, and accepted where there is none. UserError where the settings
    among `existing` cannot be read.
    """
    known = [placed(item, namespace) for item in existing]
    before: list[JsonObject] = []
    for item in objects:
        kind, name = _identity(item)
        given = old if old is not None and _identity(old) == (kind, name) else None
        world = OfflineWorld(known, before)
        try:
            manifest = placed(item, namespace)
            stored = _admit(manifest, given or world.stored(manifest), world)
        except Invalid as error:
            yield Verdict(kind=kind, name=name, errors=error.errors)
            continue
        before.append(manifest)
        yield Verdict(kind=kind, name=name, defaulted=stored)


def admitted(manifest: JsonObject, world: OfflineWorld) -> JsonObject:
    """The object as a new one would be stored; Invalid where it is refused."""
    return _admit(manifest, None, world)


def _admit(manifest: JsonObject, old: JsonView | None, world: OfflineWorld) -> JsonObject:
    """The object as it would be stored: known fields only, defaults, the kind's own rules, then the schema."""
    kind, api_version = str(manifest.get("kind") or ""), str(manifest.get("apiVersion") or "")
    offered: JsonObject = copy.deepcopy(manifest)
    schema = _schema(api_version, kind)
    unknown = schema.prune(offered) if schema is not None else ()
    errors = [FieldError(field=path, message="unknown field") for path in unknown]
    admit = _admits(world.settings.defaults).get(kind) if is_a(manifest, KSERVE_GROUP, kind) else None
    stored = offered
    if admit is not None:
        try:
            stored = admit(_request(offered, old, world))
        except Invalid as error:
            errors += error.errors
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            # Admission comes before the schema, as in Kubernetes, and may stumble over a field of the wrong type.
            wrong = schema.validate(offered) if schema is not None else []
            if not wrong:
                raise
            raise Invalid([*errors, *wrong]) from None
    if schema is not None:
        known = {error.field for error in errors}
        errors += [error for error in schema.validate(stored) if error.field not in known]
    if errors:
        raise Invalid(errors)
    return stored


def _request(offered: JsonObject, old: JsonView | None, world: OfflineWorld) -> AdmissionRequest:
    kind = str(offered.get("kind") or "")
    return AdmissionRequest(
        operation=Operation.UPDATE if old is not None else Operation.CREATE,
        group=KSERVE_GROUP,
        kind=kind,
        namespace=str(offered["metadata"].get("namespace") or ""),
        name=str(offered["metadata"].get("name") or ""),
        object=offered,
        old=old,
        others=tuple(world.others(offered)) if (KSERVE_GROUP, kind) in LOOKS_AT_OTHERS else (),
    )


def _admits(defaults: Defaults) -> Mapping[str, Admit]:
    runtime = serving_runtime_admission(defaults)
    return {
        SERVICE_KIND: inference_service_admission(defaults),
        RUNTIME_KIND: runtime,
        CLUSTER_KIND: runtime,
        GRAPH_KIND: admit_inference_graph,
        MODEL_KIND: admit_trained_model,
    }


@cache
def _schema(api_version: str, kind: str) -> StructuralSchema | None:
    """The schema of a kind that a shipped CRD describes."""
    try:
        resource = resource_type_of(api_version, kind)
    except UserError:
        return None
    file = files("manifests").joinpath("crds", f"{resource.plural}.{resource.group}.json")
    if not file.is_file():
        return None
    versions = orjson.loads(file.read_bytes())["spec"]["versions"]
    found = next((item for item in versions if item["name"] == resource.version), None)
    return StructuralSchema.compile(found["schema"]["openAPIV3Schema"]) if found is not None else None


def _identity(manifest: JsonView) -> tuple[str, str]:
    meta = manifest.get("metadata")
    name = (meta.get("name") or meta.get("generateName")) if isinstance(meta, dict) else None
    return str(manifest.get("kind") or "object"), str(name or "")
