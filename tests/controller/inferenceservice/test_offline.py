"""What `ladle render` and `ladle validate` are made of."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest

from controller.base.errors import Invalid, UserError
from controller.inferenceservice.offline import render
from controller.inferenceservice.offline_admission import validate
from tests.controller.inferenceservice.builders import ROOT, knative_service, manifest, runtime, virtual_service

CONFIG = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "inferenceservice-config", "namespace": "kserve"},
    "data": {"storageInitializer": '{"image": "example/init:1"}'},
}


def placed(kind: str, api_version: str, item: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, **item.to_json()}


def names(rendered: list[dict[str, Any]]) -> list[str]:
    return [f"{item['kind']}/{item['metadata']['name']}" for item in rendered]


def schema_of(name: str) -> jsonschema_rs.Draft7Validator:
    crd = json.loads((ROOT / f"manifests/crds/{name}.json").read_text())
    return jsonschema_rs.Draft7Validator(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])


def test_a_manifest_gives_its_children_with_the_shipped_runtimes() -> None:
    rendered = render([manifest()])
    assert names(rendered) == ["Service/iris-predictor", "Service/iris"]
    (container,) = rendered[0]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "kserve/sklearnserver:latest"
    assert container["args"] == ["--model_name=iris", "--model_dir=/mnt/models", "--http_port=8080"]


def test_a_manifest_without_a_namespace_goes_to_the_given_one() -> None:
    offered = manifest()
    del offered["metadata"]["namespace"]
    assert {item["metadata"]["namespace"] for item in render([offered], namespace="elsewhere")} == {"elsewhere"}


def test_what_exists_counts() -> None:
    own = runtime("own").to_json()
    rendered = render([manifest()], existing=[own, CONFIG])
    pod = rendered[0]["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "example/own:1"
    assert pod["initContainers"][0]["image"] == "example/init:1"


def test_secrets_and_service_accounts_that_exist_count_and_stay_secret() -> None:
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "sa", "namespace": "ns"},
        "secrets": [{"name": "s3"}],
    }
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s3", "namespace": "ns"},
        "data": {"AWS_ACCESS_KEY_ID": "aHVudGVyMg==", "S3_ENDPOINT": "bWluaW86OTAwMA=="},
        "stringData": {"AWS_SECRET_ACCESS_KEY": "hunter2"},
    }
    offered = manifest({"serviceAccountName": "sa"})
    rendered = render([offered], existing=[account, secret])
    (initializer,) = rendered[0]["spec"]["template"]["spec"]["initContainers"]
    found = {
        item["name"]: item.get("value") or item["valueFrom"]["secretKeyRef"]["name"] for item in initializer["env"]
    }
    assert found["AWS_SECRET_ACCESS_KEY"] == "s3"
    assert found["AWS_ENDPOINT_URL"] == "https://minio:9000"
    assert "hunter2" not in json.dumps(rendered)
    with pytest.raises(UserError, match="no secret s3 in namespace ns, which service account sa names"):
        render([offered], existing=[account])
    assert render([offered])  # Nobody looked, so nothing is missing.


def test_runtimes_beside_the_service_count_together_with_the_shipped_ones() -> None:
    own = runtime("own", kind="ServingRuntime").to_json()
    assert render([own, manifest()])[0]["spec"]["template"]["spec"]["containers"][0]["image"] == "example/own:1"
    lightgbm = manifest({"model": {"modelFormat": {"name": "lightgbm"}}})
    assert "lgbserver" in render([own, lightgbm])[0]["spec"]["template"]["spec"]["containers"][0]["image"]


def test_children_that_are_ready_bring_the_virtual_service_and_the_status() -> None:
    live = [
        placed("Service", "serving.knative.dev/v1", knative_service()),
        placed("VirtualService", "networking.istio.io/v1", virtual_service()),
    ]
    rendered = render([manifest()], existing=live, with_status=True)
    assert names(rendered) == ["Service/iris-predictor", "Service/iris", "VirtualService/iris", "InferenceService/iris"]
    assert rendered[-1]["status"]["url"] == "http://iris.ns.example.com"


def test_the_stored_service_brings_its_status() -> None:
    stored = {
        **manifest(),
        "status": {"components": {"predictor": {"latestRolledoutRevision": "iris-predictor-00007"}}},
    }
    changed = manifest({"canaryTrafficPercent": 20})
    live = placed("Service", "serving.knative.dev/v1", knative_service(ready="Unknown"))
    rendered = render([changed], existing=[stored, live])
    assert rendered[0]["spec"]["traffic"][1]["revisionName"] == "iris-predictor-00007"


def test_children_fit_the_schemas_of_knative_and_istio() -> None:
    live = placed("Service", "serving.knative.dev/v1", knative_service())
    knative, _, istio = render([manifest({"timeout": 3, "minReplicas": 0})], existing=[live])
    assert list(schema_of("services.serving.knative.dev").iter_errors(knative)) == []
    assert list(schema_of("virtualservices.networking.istio.io").iter_errors(istio)) == []


def test_the_status_fits_kserves_schema() -> None:
    live = placed("Service", "serving.knative.dev/v1", knative_service())
    schema = schema_of("inferenceservices.serving.kserve.io")
    for existing in ([], [live]):
        assert list(schema.iter_errors(render([manifest()], existing=existing, with_status=True)[-1])) == []
    blocked = render([manifest({"model": {"modelFormat": {"name": "x"}}})], with_status=True)
    assert list(schema.iter_errors(blocked[-1])) == []


def test_a_refused_manifest_is_not_rendered() -> None:
    with pytest.raises(Invalid, match="canaryTrafficPercent"):
        render([manifest({"canaryTrafficPercent": 101})])


def test_a_manifest_without_a_runtime_says_what_there_is() -> None:
    with pytest.raises(UserError, match=r'"fortran".*sklearn') as caught:
        render([manifest({"model": {"modelFormat": {"name": "fortran"}}})])
    assert caught.value.reason == "NoSupportingRuntime"


def test_a_verdict_names_object_field_and_rule() -> None:
    good, bad = validate([manifest(), manifest({"canaryTrafficPercent": 101, "timeout": -5})])
    assert str(good) == "accepted InferenceService/iris"
    assert str(bad).splitlines() == [
        "refused InferenceService/iris: spec.predictor.canaryTrafficPercent: Invalid value: 101: must be in [0, 100]",
        "refused InferenceService/iris: spec.predictor.timeout: Invalid value: -5: must be 0 or more seconds",
    ]
    assert bad.defaulted is None


def test_an_accepted_object_is_shown_as_it_would_be_stored() -> None:
    (verdict,) = validate([manifest({"model": None, "sklearn": {"storageUri": "gs://a/b"}})])
    assert verdict.defaulted is not None
    assert verdict.defaulted["spec"]["predictor"]["model"]["modelFormat"] == {"name": "sklearn"}


def test_unknown_fields_and_wrong_types_are_refused_by_the_schema() -> None:
    (unknown,) = validate([manifest({"replicas": 3})])
    assert str(unknown) == "refused InferenceService/iris: spec.predictor.replicas: unknown field"
    (wrong,) = validate([manifest({"minReplicas": "3"})])
    assert [error.field for error in wrong.errors] == ["spec.predictor.minReplicas"]


def test_kinds_with_a_schema_alone_are_judged_by_it() -> None:
    gateway = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "v"},
        "spec": {"bogus": 1},
    }
    (verdict,) = validate([gateway])
    assert str(verdict) == "refused VirtualService/v: spec.bogus: unknown field"
    (other,) = validate([{"apiVersion": "v1", "kind": "Whatever", "metadata": {"name": "w"}}])
    assert str(other) == "accepted Whatever/w"


def test_a_change_is_judged_against_the_stored_object() -> None:
    standard = manifest(meta={"annotations": {"serving.kserve.io/deploymentMode": "Standard"}})
    (verdict,) = validate([standard], old=manifest())
    assert "cannot be changed from Knative to Standard" in str(verdict)
    (unrelated,) = validate([standard], old=manifest(name="other"))
    assert not unrelated.errors


def test_what_was_offered_is_left_as_it_was() -> None:
    offered = manifest({"replicas": 3})
    before = json.dumps(offered)
    list(validate([offered]))
    assert json.dumps(offered) == before
