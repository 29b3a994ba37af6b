"""For each reason for which a spec cannot be carried out: what serves goes on, and the status says what to change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from controller.api.core import ConfigMap
from controller.api.servingruntime import MISSING_ANNOTATION
from controller.base.errors import UserError
from controller.inferenceservice.config import Settings, parse_settings
from controller.inferenceservice.secrets import Identities, view_secret
from tests.controller.inferenceservice.builders import (
    conditions,
    knative_service,
    plan,
    runtime,
    service,
    settle,
    virtual_service,
)

IDENTITIES = Identities(
    namespace="ns",
    complete=True,
    secrets={
        "storage-config": view_secret(
            {
                "metadata": {"name": "storage-config"},
                "stringData": {"mine": '{"type": "s3", "bucket": "b"}', "text": "no"},
            }
        )
    },
)
BY_NAME = {"name": "sklearn", "version": "1"}
RUNTIMES = (
    runtime(),
    runtime("off", BY_NAME, disabled=True),
    runtime("headless", BY_NAME, containers=[{"name": "server", "image": "x"}]),
    runtime(
        "templated", BY_NAME, containers=[{"name": "kserve-container", "image": "x", "args": ["{{.Spec.Secret}}"]}]
    ),
    runtime("boosters", {"name": "xgboost", "version": "1"}),
    runtime(
        "absent",
        {"name": "tensorflow", "version": "1", "autoSelect": True},
        annotations={MISSING_ANNOTATION: "*: use onnx instead"},
    ),
)


def model(**fields: Any) -> dict[str, Any]:
    return {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "gs://bucket/other", **fields}}


def stored(key: str) -> dict[str, Any]:
    return {"model": {"modelFormat": {"name": "sklearn"}, "storage": {"key": key, "path": "iris"}}}


BROKEN: Mapping[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "no such runtime": (model(runtime="nowhere"), "RuntimeNotRecognized", ("nowhere", "there are: ", "rt")),
    "a runtime that is off": (model(runtime="off"), "RuntimeDisabled", ("off is disabled", "enable it")),
    "a runtime for another format": (model(runtime="boosters"), "NoSupportingRuntime", ("boosters", "sklearn")),
    "a format that nobody knows": (model(modelFormat={"name": "fortran"}), "NoSupportingRuntime", ("fortran", "sklearn")),
    "a version that nobody knows": (
        model(modelFormat={"name": "sklearn", "version": "9"}), "NoSupportingRuntime", ("not 9", "sklearn")
    ),
    "a protocol that nobody speaks": (model(protocolVersion="grpc-v1"), "NoSupportingRuntime", ("grpc-v1",)),
    "a runtime that is not here": (model(modelFormat={"name": "tensorflow"}), "RuntimeUnavailable", ("absent", "use onnx")),
    "a runtime without a server": (model(runtime="headless"), "InvalidPredictorSpec", ("headless", "kserve-container")),
    "a placeholder that cannot be": (model(runtime="templated"), "InvalidPredictorSpec", ("{{.Spec.Secret}}", "only")),
    "a scheme that nobody fetches": (model(storageUri="ftp://a/b"), "InvalidStorage", ("ftp://a/b", "must start with")),
    "no such account": (
        {**model(), "serviceAccountName": "nobody"}, "ServiceAccountNotFound", ("nobody", "create")
    ),
    "no such key in the secret": (stored("nothing"), "SecretKeyNotFound", ("nothing", "storage-config", "mine")),
    "a key that is no store": (stored("text"), "InvalidSecret", ("text", "storage-config", "JSON")),
}  # fmt: skip
_MODEL_REASONS = {"InvalidStorage": "InvalidPredictorSpec", "RuntimeUnavailable": "NoSupportingRuntime"}
"""Where modelStatus has KServe's word for it."""
_NOT_THE_MODELS = ("ServiceAccountNotFound", "SecretKeyNotFound", "InvalidSecret")
"""Of these modelStatus has no word."""


@pytest.mark.parametrize("name", BROKEN)
def test_the_serving_revision_stays_and_the_reason_is_said(name: str) -> None:
    predictor, reason, words = BROKEN[name]
    made = blocked(predictor)
    assert conditions(made)["PredictorReady"] == conditions(made)["Ready"] == ("False", reason)
    message = said(made)
    assert all(word in message for word in words), message
    assert ("Warning", reason, message) in [(event.type, event.reason, event.message) for event in made.events]
    info = made.status["modelStatus"].get("lastFailureInfo")
    if reason in _NOT_THE_MODELS:
        assert info is None
    else:
        assert info == {"reason": _MODEL_REASONS.get(reason, reason), "message": message}


def test_a_secret_that_is_not_there_is_named() -> None:
    made = blocked(stored("mine"), identities=Identities(namespace="ns", complete=True))
    assert conditions(made)["Ready"] == ("False", "SecretNotFound")
    assert "there is no secret storage-config in namespace ns" in said(made)


def test_settings_that_cannot_be_read_are_named() -> None:
    config = ConfigMap.parse({"metadata": {"name": "inferenceservice-config"}, "data": {"ingress": "{no json"}})
    with pytest.raises(UserError) as found:
        parse_settings(config, {})
    made = blocked(model(), refusal=found.value)
    assert conditions(made)["Ready"] == ("False", "InvalidConfig")
    assert "ingress" in said(made)


def test_a_child_that_knative_refuses_is_said_in_its_words() -> None:
    refused = UserError("ReconcileFailed", "fails to reconcile: spec.template.spec.containers[0].ports: too many")
    made = blocked(model(), refusal=refused)
    assert conditions(made)["Ready"] == ("False", "ReconcileFailed")
    assert "containers[0].ports: too many" in said(made)


def blocked(predictor: Mapping[str, Any], **rest: Any) -> Any:
    """The plan for a service that is ready, and that was then changed to this predictor."""
    world: dict[str, Any] = {"runtimes": RUNTIMES, "identities": IDENTITIES, "settings": Settings(), **rest}
    before = settle(service(), knative_service(), virtual_service=virtual_service())
    changed = before.replace(spec=service(predictor).spec, metadata=before.metadata.replace(generation=2))
    made = plan(changed, knative_service(), virtual_service=virtual_service(), **world)
    assert made.keep_children
    assert conditions(made)["IngressReady"] == ("True", "")
    assert made.status is not None
    assert made.status["url"] == "http://iris.ns.example.com"
    component = made.status["components"]["predictor"]
    assert component["latestReadyRevision"] == "iris-predictor-00001"
    assert component["traffic"] == [{"latestRevision": True, "revisionName": "iris-predictor-00001", "percent": 100}]
    return made


def said(made: Any) -> str:
    """The message of Ready."""
    message: str = next(item for item in made.status["conditions"] if item["type"] == "Ready")["message"]
    return message
