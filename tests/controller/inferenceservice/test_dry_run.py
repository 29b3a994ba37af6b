"""What is made of KServe's manifests passes two judges of the reference CRDs: a strict dry run, and a JSON Schema validator."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from controller.base.errors import UserError
from controller.base.json import JsonObject, JsonView
from controller.inferenceservice.forecast import render_once_ready
from controller.kube.client import KubeClient
from controller.kube.errors import Rejected
from controller.kube.resources import CRDS, NAMESPACES, resource_type_of
from tests.controller.inferenceservice.builders import SHARED
from tests.onebox_api import ApiProcess, prepare_api

NAMESPACE = "golden"
FIXTURES = sorted((SHARED / "fixtures/kserve").glob("*.yaml"))
pytestmark = pytest.mark.skipif(not SHARED.exists(), reason="the reference CRDs and manifests are not here")

NOTHING_MADE = {
    "fluid__kserve-huggingfaceserver": "a ServingRuntime",
    "multimodelserving__sklearn__trainedmodels": "TrainedModels",
    "multimodelserving__triton__trained_model2": "a TrainedModel",
    "multimodelserving__sklearn__inferenceservice": "refused, by KServe as well",
}
"""Manifests of which nothing is made, each with the reason."""


class DryRunClient(KubeClient):
    async def dry_run(self, body: JsonView) -> JsonObject:
        """What the server would store; Rejected where it would not, unknown fields included."""
        resource = resource_type_of(body["apiVersion"], body["kind"])
        query = {"dryRun": "All", "fieldValidation": "Strict", "fieldManager": "test"}
        return await self._request("POST", resource.path(body["metadata"].get("namespace")), query=query, body=body)


@cache
def documents(path: Path) -> list[dict[str, Any]]:
    return [item for item in yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader) if item]


@cache
def definitions() -> dict[tuple[str, str], dict[str, Any]]:
    """The reference CRDs by group and kind."""
    found = [item for path in sorted((SHARED / "crds").glob("*.yaml")) for item in documents(path)]
    return {(item["spec"]["group"], item["spec"]["names"]["kind"]): item for item in found}


@cache
def made(path: Path) -> list[JsonObject]:
    """All children of a manifest once everything is ready, and the InferenceServices as they are stored, with status."""
    services = [item for item in documents(path) if item["kind"] == "InferenceService"]
    runtime = documents(SHARED / "fixtures/kserve/fluid__kserve-huggingfaceserver.yaml")
    cluster = [*documents(SHARED / "golden/kserve/cluster.yaml"), *placed(runtime)]
    try:
        return render_once_ready(services, existing=cluster, namespace=NAMESPACE, with_status=True)
    except UserError:
        return []


def placed(objects: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The objects with the namespace of these tests, those of the cluster without one."""
    found = ((item, {} if item["kind"].startswith("Cluster") else {"namespace": NAMESPACE}) for item in objects)
    return [{**item, "metadata": {**item["metadata"], **namespace}} for item, namespace in found]


def judge(body: JsonView) -> list[str]:
    """What the independent validator finds wrong; () for kinds without a CRD."""
    group, _, version = body["apiVersion"].rpartition("/")
    if group == "":  # Kubernetes' own kinds have no CRD.
        return []
    found = _validator(group, version, body["kind"]).iter_errors(body)
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in found]


@cache
def _validator(group: str, version: str, kind: str) -> jsonschema.Draft202012Validator:
    versions = definitions()[group, kind]["spec"]["versions"]
    schema = next(item for item in versions if item["name"] == version)["schema"]["openAPIV3Schema"]
    return jsonschema.Draft202012Validator(_strict(schema, top=True))


def _strict(schema: Any, *, top: bool = False) -> Any:
    """The schema with Kubernetes' meaning in JSON Schema's words: unknown fields are wrong, integers or text, nullable."""
    if not isinstance(schema, dict):
        return schema
    changed = dict(schema)
    if "properties" in schema:
        changed["properties"] = {name: _strict(value) for name, value in schema["properties"].items()}
        if top:
            changed["properties"] |= dict.fromkeys(("apiVersion", "kind", "metadata"), True)
        if "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            changed["additionalProperties"] = False
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            changed[name] = _strict(schema[name])
    if schema.get("x-kubernetes-int-or-string"):
        changed.pop("type", None)
        changed["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if schema.get("nullable") and "type" in changed:
        changed["type"] = [changed["type"], "null"]
    return changed


@pytest.fixture(scope="module")
def reference_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    """An API server that serves the reference CRDs in place of its own."""
    api = prepare_api(tmp_path_factory.mktemp("api") / "home")

    async def begin() -> None:
        await api.start()
        async with KubeClient.open(api.kubeconfig, user_agent="test") as client:
            await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
            for definition in definitions().values():
                await client.apply(CRDS, definition, field_manager="test")

    asyncio.run(begin())
    yield api
    asyncio.run(api.stop())


@pytest.fixture
async def client(reference_api: ApiProcess) -> AsyncIterator[DryRunClient]:
    async with DryRunClient.open(reference_api.kubeconfig, user_agent="test") as opened:
        assert isinstance(opened, DryRunClient)
        yield opened


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
async def test_what_is_made_passes_a_strict_dry_run_and_an_independent_validator(
    path: Path, client: DryRunClient
) -> None:
    for offered in placed(documents(path)):
        if path.stem != "multimodelserving__sklearn__inferenceservice":
            await client.dry_run(offered)
    children = made(path)
    assert bool(children) != (path.stem in NOTHING_MADE)
    for child in children:
        name = f"{child['kind']}/{child['metadata']['name']}"
        assert judge(child) == [], name
        stored = await client.dry_run(child)
        assert stored["kind"] == child["kind"]
        assert judge(stored) == [], name


def _with(child: JsonObject, *path: str, value: Any) -> JsonObject:
    changed = copy.deepcopy(child)
    target: Any = changed
    for name in path[:-1]:
        target = target[name]
    if value is None:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return changed


async def test_both_judges_see_an_unknown_field_a_wrong_type_and_a_missing_one(client: DryRunClient) -> None:
    children = made(SHARED / "fixtures/kserve/v1beta1__xgboost__xgboost.yaml")
    knative = next(item for item in children if item["apiVersion"].startswith("serving.knative.dev"))
    istio = next(item for item in children if item["kind"] == "VirtualService")
    own = next(item for item in children if item["kind"] == "InferenceService")
    for wrong in (
        _with(knative, "spec", "template", "spec", "bogus", value=1),
        _with(knative, "spec", "template", "spec", "containers", value="one"),
        _with(istio, "spec", "hostnames", value=["a"]),
        _with(istio, "spec", "http", value=[{"timeout": 3}]),
        _with(own, "spec", "predictor", "replicas", value=3),
        _with(own, "spec", "predictor", "model", "modelFormat", "name", value=None),
        _with(own, "spec", "predictor", value=None),
    ):
        assert judge(wrong), wrong["kind"]
        with pytest.raises((Rejected, UserError)):
            await client.dry_run(wrong)
