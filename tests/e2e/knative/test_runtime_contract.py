"""F10: what a container finds in its environment."""

from __future__ import annotations

import json

import pytest

from tests.e2e.knative.asking import ask
from tests.e2e.knative.serving import Serving, container, service, template

pytestmark = [pytest.mark.e2e, pytest.mark.long]


def test_a_container_knows_its_port_and_its_names(serving: Serving) -> None:
    url = serving.run(service("contract", template(container("runtime", ports=[{"containerPort": 8801}]))))
    seen = json.loads(ask(url, "/what?is=seen", headers={"X-Cook": "Ann"}).body)
    names = {"K_SERVICE": "contract", "K_CONFIGURATION": "contract", "K_REVISION": "contract-00001"}
    assert seen["env"].items() >= names.items()
    assert seen["stdin"] == ""
    request = seen["request"]
    assert request["path"] == "/what?is=seen"
    headers = {name.lower(): value for name, value in request["headers"].items()}
    assert headers["x-cook"] == "Ann"
    assert headers["x-forwarded-proto"] == "http"
    assert "proto=http" in headers["forwarded"]
    assert request["host"].startswith("contract.default.")
    # The pod says 8801; on this machine, which all pods share, that stands for a port of its own.
    [pod] = serving.pods("contract-00001")
    listed = {item["name"]: item for item in serving.get("pod", pod)["spec"]["containers"]}["user-container"]
    assert [port["containerPort"] for port in listed["ports"]] == [8801]
    assert {item["name"]: item["value"] for item in listed["env"]}["PORT"] == "8801"
    assert int(seen["env"]["PORT"]) != 8801
