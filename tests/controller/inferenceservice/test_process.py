"""`python -m controller` as a process: it reconciles, alone or elected, and ends when it is told to."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from urllib.request import urlopen

import pytest

from controller.base.json import JsonObject
from controller.kube.errors import NotFound
from controller.kube.resources import INFERENCE_GRAPHS, INFERENCE_SERVICES, KNATIVE_SERVICES, LEASES, NAMESPACES
from tests.controller.inferenceservice.builders import manifest
from tests.controller.inferenceservice.conftest import NAMESPACE, ServiceBox
from tests.controller.inferenceservice.test_later_kinds import GRAPH
from tests.ports import free_port
from tests.waiting import eventually

_STOP_S = 10.0


@contextmanager
def process(box: ServiceBox, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "controller", "--kubeconfig", str(box.api.kubeconfig), *arguments]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "POD_NAMESPACE": "ladle-system"})
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


async def exit_code(started: subprocess.Popen[bytes]) -> int:
    return await asyncio.to_thread(started.wait, _STOP_S)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_reconciles_until_it_is_told_to_end(box: ServiceBox, number: signal.Signals) -> None:
    with process(box, "--no-leader-elect") as started:
        await box.apply(INFERENCE_SERVICES, manifest())
        await box.appears(KNATIVE_SERVICES, "iris-predictor")
        started.send_signal(number)
        assert await exit_code(started) == 0


async def test_of_two_replicas_one_leads_and_hands_over_when_it_ends(box: ServiceBox) -> None:
    await box.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ladle-system"}})

    async def holder() -> str:
        try:
            lease: JsonObject = await box.client.get(LEASES, "ladle-controller", "ladle-system")
        except NotFound:
            return ""
        return str(lease["spec"].get("holderIdentity") or "")

    with process(box) as first:
        leader = await eventually("a leader", holder)
        assert leader.endswith(f"_{first.pid}")
        with process(box) as second:
            await box.apply(INFERENCE_SERVICES, manifest())
            await box.appears(KNATIVE_SERVICES, "iris-predictor")
            first.terminate()
            assert await exit_code(first) == 0

            async def handed_over() -> bool:
                return (await holder()).endswith(f"_{second.pid}")

            await eventually("the other one leads", handed_over)
            await box.apply(INFERENCE_SERVICES, manifest(name="second"))
            await box.appears(KNATIVE_SERVICES, "second-predictor")
            second.terminate()
            assert await exit_code(second) == 0


async def test_it_answers_probes_and_speaks_for_kinds_that_are_not_built_yet(box: ServiceBox) -> None:
    port = free_port()

    def healthy() -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
                return bool(answer.status == HTTPStatus.OK)
        except OSError:
            return False

    async def probe() -> bool:
        return await asyncio.to_thread(healthy)

    async def said() -> bool:
        conditions = ((await box.find(INFERENCE_GRAPHS, "graph")) or {}).get("status", {}).get("conditions", ())
        return [item["reason"] for item in conditions] == ["NotSupported"]

    with process(box, "--no-leader-elect", "--probe-port", str(port)):
        await eventually("healthy", probe)
        await box.apply(INFERENCE_GRAPHS, {**GRAPH, "metadata": {"name": "graph", "namespace": NAMESPACE}})
        await eventually("the graph says that it is not built", said)
