"""KServe's agent in the Knative Service of a component that asks for a batcher or a logger."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controller.inferenceservice.config import AgentSettings, Settings
from tests.controller.inferenceservice.builders import knative_child, plan, service


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
