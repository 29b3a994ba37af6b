"""What `ladle render -f` prints without a cluster: every child, as real API servers would take it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from controller.inferenceservice.forecast import render_once_ready

ROOT = Path(__file__).parents[3]
IRIS = yaml.safe_load((ROOT / "examples/iris/inferenceservice.yaml").read_text())


def crd_schema(kind: str, group: str, version: str) -> Any:
    """The schema of a kind as its project ships it, from the reference where it is there, else from our own copy."""
    for folder in (ROOT / "../shared/crds", ROOT / "manifests/crds"):
        for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.json")]) if folder.exists() else ():
            crd = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)
            if crd["spec"]["names"]["kind"] == kind and crd["spec"]["group"] == group:
                found = next(v for v in crd["spec"]["versions"] if v["name"] == version)
                return plain(found["schema"]["openAPIV3Schema"])
    raise AssertionError(f"no CRD of {kind}")


def plain(schema: Any) -> Any:
    """JSON Schema of a structural schema: int-or-string has no type, and nothing that is not named is allowed."""
    if isinstance(schema, list):
        return [plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {name: plain(value) for name, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    closed = "properties" in schema and isinstance(schema.get("type"), str)
    if closed and not schema.get("x-kubernetes-preserve-unknown-fields") and "additionalProperties" not in schema:
        result["additionalProperties"] = False
    return result


def test_every_child_is_there() -> None:
    kinds = [child["kind"] for child in render_once_ready([IRIS])]
    assert kinds == ["Service", "Service", "VirtualService"]


@pytest.mark.parametrize("kind", ["Service", "VirtualService"])
def test_children_validate_against_the_schemas_of_their_projects(kind: str) -> None:
    child = next(c for c in render_once_ready([IRIS]) if c["kind"] == kind and "/" in c["apiVersion"])
    group, version = child["apiVersion"].split("/")
    schema = crd_schema(kind, group, version)
    schema["properties"] |= {name: {} for name in ("apiVersion", "kind")}  # Istio leaves these to the API server.
    schema["properties"]["metadata"] = {"type": "object"}  # Its own schema is the API server's.
    errors = [
        f"{'.'.join(map(str, e.instance_path))}: {e.message}"
        for e in jsonschema_rs.validator_for(schema).iter_errors(json.loads(json.dumps(child)))
    ]
    assert not errors


def test_hosts_have_no_port() -> None:
    service = next(c for c in render_once_ready([IRIS], namespace="mine") if c["kind"] == "VirtualService")
    assert service["spec"]["hosts"] == ["sklearn-iris.mine.svc.cluster.local", "sklearn-iris.mine.localhost"]


def test_the_status_says_ready() -> None:
    service = next(c for c in render_once_ready([IRIS], with_status=True) if c["kind"] == "InferenceService")
    assert service["status"]["url"] == "http://sklearn-iris.default.localhost"
    assert {c["type"]: c["status"] for c in service["status"]["conditions"]}["PredictorReady"] == "True"
