from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from controller.kube.discovery import discover
from controller.kube.resources import INFERENCE_SERVICES, PODS, SERVING_RUNTIMES
from tests.controller.kube.scripted_api import Connection, status

VERBS = ["create", "delete", "get", "list", "patch", "watch"]


def answer(**content: Any) -> web.Response:
    return web.Response(body=orjson.dumps(content), content_type="application/json")


def resource(name: str, kind: str, verbs: list[str] | None = None) -> dict[str, Any]:
    return {"name": name, "kind": kind, "namespaced": True, "verbs": VERBS if verbs is None else verbs}


async def test_each_kind_is_found_once_in_the_version_that_its_group_prefers_for_it(connection: Connection) -> None:
    versions = [{"version": "v1beta1"}, {"version": "v1alpha1"}]
    gone = {"name": "gone.dev", "versions": [{"version": "v1"}], "preferredVersion": {"version": "v1"}}
    group = {"name": "serving.kserve.io", "versions": versions, "preferredVersion": {"version": "v1beta1"}}
    isvc, runtime = resource("inferenceservices", "InferenceService"), resource("servingruntimes", "ServingRuntime")
    connection.api.answers += [
        answer(
            resources=[resource("pods", "Pod"), resource("pods/status", "Pod"), resource("bindings", "Binding", [])]
        ),
        answer(groups=[group, gone]),
        answer(resources=[isvc, resource("inferenceservices/status", "InferenceService")]),
        answer(resources=[isvc, runtime]),
        status(404, "NotFound"),
    ]
    assert await discover(connection.client) == (PODS, INFERENCE_SERVICES, SERVING_RUNTIMES)
