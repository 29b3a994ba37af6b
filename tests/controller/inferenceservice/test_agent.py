"""KServe's agent in the Knative Service of a component that asks for a batcher or a logger."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controller.inferenceservice.config import AgentSettings, LoggerSettings, Settings
from controller.inferenceservice.secrets import AccountView, Identities, SecretView
from tests.controller.inferenceservice.builders import conditions, knative_child, plan, service


def containers(predictor: dict[str, Any], **world: Any) -> dict[str, dict[str, Any]]:
    spec = knative_child(plan(service(predictor), **world))["spec"]["template"]["spec"]
    return {item["name"]: item for item in spec["containers"]}


def custom(batcher: dict[str, Any] | None = None, **container: Any) -> dict[str, dict[str, Any]]:
    """The containers of a predictor with the user's own."""
    own = {"name": "kserve-container", "image": "example.com/mine:1", **container}
    return containers({"model": None, "containers": [own], "batcher": batcher or {}})


def environment(item: dict[str, Any]) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in item["env"]}


def test_without_batcher_and_logger_there_is_none() -> None:
    assert "agent" not in containers({})


@pytest.mark.parametrize(
    ("batcher", "flags"),
    [
        ({}, []),
        ({"maxBatchSize": 8}, ["--max-batchsize", "8"]),
        ({"maxBatchSize": 8, "maxLatency": 50, "timeout": 3}, ["--max-batchsize", "8", "--max-latency", "50"]),
        ({"maxLatency": 0}, []),
    ],
)
def test_the_batcher_becomes_the_agents_flags(batcher: dict[str, Any], flags: list[str]) -> None:
    args = containers({"batcher": batcher})["agent"]["args"]
    assert args == ["--enable-batcher", *flags, "--component-port", "8080"]


def test_the_agent_takes_the_requests_and_the_component_learns_its_port() -> None:
    found = custom(ports=[{"containerPort": 5000}], readinessProbe={"httpGet": {"path": "/ready"}})
    assert [item.get("ports") for item in found.values()] == [None, [{"containerPort": 9081}]]
    assert found["agent"]["args"][-2:] == ["--component-port", "5000"]
    assert environment(found["kserve-container"])["PORT"] == "5000"
    assert "readinessProbe" not in found["kserve-container"]
    probe = json.loads(environment(found["agent"])["SERVING_READINESS_PROBE"])
    assert probe["httpGet"] == {"path": "/ready", "port": 5000, "host": "127.0.0.1"}


def test_without_a_probe_the_agent_asks_whether_the_port_is_open() -> None:
    probe = json.loads(environment(custom()["agent"])["SERVING_READINESS_PROBE"])
    assert probe == {"tcpSocket": {"port": 8080, "host": "127.0.0.1"}, "successThreshold": 1}


def test_a_port_of_the_users_own_choice_stays() -> None:
    assert environment(custom(env=[{"name": "PORT", "value": "7000"}])["kserve-container"])["PORT"] == "7000"


def test_image_and_amounts_come_from_the_settings() -> None:
    settings = Settings(agent=AgentSettings(image="example.com/agent:2", cpu_limit="2"))
    agent = containers({"batcher": {}}, settings=settings)["agent"]
    assert agent["image"] == "example.com/agent:2"
    assert agent["resources"] == {
        "requests": {"cpu": "100m", "memory": "100Mi"},
        "limits": {"cpu": "2", "memory": "1Gi"},
    }


def test_a_logger_without_a_place_gets_the_default_one() -> None:
    args = containers({"logger": {"mode": "request"}})["agent"]["args"]
    assert args[:2] == ["--log-url", "http://default-broker"]
    assert "--enable-batcher" not in args


LOGGER = {"mode": "all", "url": "http://sink"}


def flags(args: list[str]) -> dict[str, str]:
    """The agent's arguments by name."""
    return dict(zip(args[::2], args[1::2], strict=True))


def test_what_a_logger_says_of_its_store_and_batches_becomes_flags() -> None:
    storage = {"path": "logs/iris", "key": "k", "parameters": {"type": "s3", "format": "parquet"}}
    logger = {**LOGGER, "storage": storage, "marshallerUrl": "http://marshal", "batchSize": 9, "batchInterval": "3s"}
    given = flags(containers({"logger": logger})["agent"]["args"])
    assert given["--log-store-path"] == "logs/iris"
    assert given["--log-store-format"] == "parquet"
    assert given["--log-marshaller-url"] == "http://marshal"
    assert (given["--log-batch-size"], given["--log-batch-interval"]) == ("9", "3s")


def test_annotations_that_a_logger_names_go_along_with_their_values() -> None:
    logger = {**LOGGER, "metadataAnnotations": ["team", "stage", "missing"], "metadataHeaders": ["x-id", "x-user"]}
    of = service(
        {"logger": logger, "annotations": {"stage": "test"}}, meta={"annotations": {"team": "a", "stage": "x"}}
    )
    spec = knative_child(plan(of))["spec"]["template"]["spec"]
    given = flags(spec["containers"][-1]["args"])
    assert given["--metadata-annotations"] == "team=a,stage=test"
    assert given["--metadata-headers"] == "x-id,x-user"


def test_the_settings_say_what_loggers_leave_open() -> None:
    settings = Settings(
        agent=AgentSettings(
            logger=LoggerSettings(batch_size=5, batch_interval="1s", marshaller_url="http://m", skip_tls_verify=True)
        )
    )
    given = flags(containers({"logger": {"mode": "all"}}, settings=settings)["agent"]["args"])
    assert (given["--log-batch-size"], given["--log-batch-interval"]) == ("5", "1s")
    assert (given["--log-marshaller-url"], given["--logger-tls-skip-verify"]) == ("http://m", "true")


def test_authorities_for_the_log_are_mounted_into_the_agent_alone() -> None:
    settings = Settings(agent=AgentSettings(logger=LoggerSettings(ca_bundle="authorities", ca_cert_file="root.crt")))
    spec = knative_child(plan(service({"logger": LOGGER}), settings=settings))["spec"]["template"]["spec"]
    component, agent = spec["containers"]
    assert agent["volumeMounts"] == [{"name": "agent-ca-bundle", "mountPath": "/etc/tls/logger", "readOnly": True}]
    assert "agent-ca-bundle" not in [item["name"] for item in component["volumeMounts"]]
    volume = next(item for item in spec["volumes"] if item["name"] == "agent-ca-bundle")
    assert volume["configMap"] == {"name": "authorities", "optional": True}
    assert flags(agent["args"])["--logger-ca-cert-file"] == "root.crt"


def identities(account: str) -> Identities:
    secret = SecretView(name="s3", keys=frozenset({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}))
    return Identities(
        namespace="ns",
        accounts={account: AccountView(name=account, secrets=("s3",)), "default": AccountView(name="default")},
        secrets={"s3": secret},
        complete=True,
    )


@pytest.mark.parametrize(("named", "account"), [({"serviceAccountName": "mine"}, "mine"), ({}, "logger-sa")])
def test_the_agent_gets_the_credentials_of_the_loggers_account(named: dict[str, str], account: str) -> None:
    storage = {"path": "logs", "key": "k", "parameters": {"type": "s3"}, **named}
    found = containers({"logger": {**LOGGER, "storage": storage}}, identities=identities(account))
    variables = {item["name"] for item in found["agent"]["env"]}
    assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= variables
    assert "AWS_ACCESS_KEY_ID" not in {item["name"] for item in found["kserve-container"]["env"]}


def test_an_account_that_a_logger_names_and_that_is_missing_is_said() -> None:
    storage = {"path": "logs", "key": "k", "parameters": {}, "serviceAccountName": "other"}
    of = service({"logger": {**LOGGER, "storage": storage}})
    assert conditions(plan(of, identities=identities("mine")))["PredictorReady"] == ("False", "ServiceAccountNotFound")
    del storage["serviceAccountName"]
    assert containers({"logger": {**LOGGER, "storage": storage}}, identities=identities("mine"))["agent"]


@pytest.mark.parametrize(
    ("annotation", "default", "scraped"),
    [(None, False, False), (None, True, True), ("true", False, True), ("false", True, False)],
)
def test_pods_say_where_their_metrics_are_if_asked_for(annotation: str | None, default: bool, scraped: bool) -> None:
    annotations = {"serving.kserve.io/enable-prometheus-scraping": annotation} if annotation else {}
    made = knative_child(
        plan(service(meta={"annotations": annotations}), settings=Settings(prometheus_scraping=default))
    )
    given = made["spec"]["template"]["metadata"]["annotations"]
    assert (given.get("prometheus.io/port"), given.get("prometheus.io/path")) == (
        ("9091", "/metrics") if scraped else (None, None)
    )
