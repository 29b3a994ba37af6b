"""A `batcher:` in the manifest: what comes at the same time goes to the model together, ours or not."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from tests.e2e.box import Box
from tests.e2e.manifests import INSTANCES, isvc
from tests.e2e.test_foreign import SERVER, ask, custom, predict

pytestmark = pytest.mark.e2e

BATCHER = {"maxBatchSize": 32, "maxLatency": 2000}
CLIENTS = 32


def at_once(url: str, name: str, rows: list[list[Any]]) -> list[Any]:
    """One request for each row, all at the same time; the answers in the order of the rows."""
    barrier = Barrier(len(rows))

    def one(row: list[Any]) -> Any:
        barrier.wait(timeout=60)
        return predict(url, name, [row])

    with ThreadPoolExecutor(len(rows)) as threads:
        return list(threads.map(one, rows))


def test_our_own_server_batches(box: Box, iris: Path) -> None:
    box.client.apply(isvc("batched", iris.as_uri(), batcher=BATCHER))
    url = box.client.wait_ready("batched", timeout_s=30)["status"]["url"]
    rows = [INSTANCES["instances"][0] if number % 2 else [5.1, 3.5, 1.4, 0.2] for number in range(CLIENTS)]
    answers = at_once(url, "batched", rows)
    assert [answer["predictions"] for answer in answers] == [[number % 2] for number in range(CLIENTS)]
    assert len({answer["batchId"] for answer in answers}) < CLIENTS / 2
    page = ask(url, "GET", "/metrics")[1].decode()
    found = re.search(r'^ladle_batch_size_rows_count\{model_name="batched"\} (\S+)', page, re.MULTILINE)
    assert found is not None, page
    assert float(found[1]) < CLIENTS / 2
    pods = box.client.request("GET", "/api/v1/namespaces/default/pods")["items"]
    (pod,) = [item for item in pods if item["metadata"]["name"].startswith("batched-")]
    states = {item["name"]: item["ready"] for item in pod["status"]["containerStatuses"]}
    assert states == {"kserve-container": True, "agent": True, "queue-proxy": True}
    assert [name for of, name in box.containers() if of == pod["metadata"]["name"]] == ["kserve-container"]
    box.client.delete("batched")


def test_a_server_of_the_users_own_is_batched_by_its_sidecar(box: Box) -> None:
    box.client.apply(custom("mine-batched", SERVER, batcher=BATCHER))
    url = box.client.wait_ready("mine-batched", timeout_s=30)["status"]["url"]
    answers = at_once(url, "mine-batched", [[number, 1] for number in range(CLIENTS)])
    assert [answer["predictions"] for answer in answers] == [[number + 1] for number in range(CLIENTS)]
    calls = json.loads(ask(url, "GET", "/seen")[1])["calls"]
    assert sum(calls) == CLIENTS
    assert len(calls) < CLIENTS / 2
    box.client.delete("mine-batched")
