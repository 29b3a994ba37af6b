"""The server in this process: what a boot installs, what expires, and what two servers of one home do."""

from __future__ import annotations

import gzip
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from controller.base.clock import SystemClock, rfc3339
from controller.base.errors import UserError
from onebox.apiserver.context import Server
from onebox.apiserver.expiry import EVENT_LIFETIME_S, delete_old_events
from onebox.apiserver.resources.crds import CRD_KEY
from onebox.apiserver.server import open_server
from onebox.apiserver.storage.records import ChangeType, Key, Record
from onebox.home import Home, OneboxSettings


@asynccontextmanager
async def _server(root: Path) -> AsyncIterator[Server]:
    home = Home(root)
    home.write_settings(OneboxSettings())
    async with open_server(home, SystemClock(), random.Random(1)) as server:
        yield server


async def test_a_boot_installs_namespaces_and_definitions_once(tmp_path: Path) -> None:
    async with _server(tmp_path) as server:
        revision = server.store.revision
        assert server.store.get(Key("namespaces", "", "default")) is not None
        assert server.registry.find("serving.kserve.io", "v1beta1", "inferenceservices") is not None
        assert len(server.store.select(CRD_KEY)) > 20
    async with _server(tmp_path) as server:
        assert server.store.revision == revision


async def test_a_newer_manifest_replaces_the_stored_definition(tmp_path: Path) -> None:
    key = Key(CRD_KEY, "", "trials.kubeflow.org")
    async with _server(tmp_path) as server:
        record = server.store.get(key)
        assert record is not None
        stored = orjson.loads(record.data)
        stored["metadata"]["annotations"] = {}
        outdated = Record(key, server.store.next_revision(), orjson.dumps(stored), {}, {})
        await server.store.submit(ChangeType.MODIFIED, outdated)
    async with _server(tmp_path) as server:
        renewed = server.store.get(key)
        assert renewed is not None
        assert renewed.revision > outdated.revision
        assert b"manifest-digest" in renewed.data


async def test_events_are_forgotten_after_an_hour(tmp_path: Path) -> None:
    async with _server(tmp_path) as server:
        now_s = server.clock.wall_s()
        for name, age_s in (("old", EVENT_LIFETIME_S + 1), ("young", 10)):
            value = {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {
                    "name": name,
                    "namespace": "default",
                    "creationTimestamp": rfc3339(now_s - 2 * EVENT_LIFETIME_S),
                },
                "lastTimestamp": rfc3339(now_s - age_s),
            }
            key = Key("events", "default", name)
            record = Record(key, server.store.next_revision(), orjson.dumps(value), {}, {})
            await server.store.submit(ChangeType.ADDED, record)
        assert delete_old_events(server.store, server.registry, server.writer, now_s) == 1
        assert delete_old_events(server.store, server.registry, server.writer, now_s) == 0
        assert server.store.latest(Key("events", "default", "old")) is None
        assert server.store.latest(Key("events", "default", "young")) is not None


async def test_a_second_server_of_one_home_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onebox.apiserver.storage.database._LOCK_S", 0.1)
    async with _server(tmp_path):
        with pytest.raises(UserError) as refused:
            async with _server(tmp_path):
                pass
        assert "ladle down" in refused.value.message


async def test_the_openapi_documents_name_kinds_and_field_validation(tmp_path: Path) -> None:
    async with _server(tmp_path) as server:
        index = server.openapi.index()["paths"]
        assert {"api/v1", "apis/apps/v1", "apis/serving.kserve.io/v1beta1"} <= set(index)
        compressed = server.openapi.document("apis/serving.kserve.io/v1beta1")
        assert compressed is not None
        document = orjson.loads(gzip.decompress(compressed))
        path = "/apis/serving.kserve.io/v1beta1/namespaces/{namespace}/inferenceservices/{name}"
        operation = document["paths"][path]["patch"]
        assert "fieldValidation" in [parameter["name"] for parameter in operation["parameters"]]
        assert operation["x-kubernetes-group-version-kind"]["kind"] == "InferenceService"
        assert server.openapi.document("apis/none/v1") is None
        assert server.openapi.document("api") is None
