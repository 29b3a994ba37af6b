"""gs:// against an emulator: which objects, how they are read, and what the messages say."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ladle.errors import StorageUnavailable
from runtimes.storage.objects import Algorithm, Digest
from runtimes.storage.uri import BadSetting, BadUri, parse_uri
from tests.runtimes.stores.contract import BUCKET, ObjectStoreContract
from tests.runtimes.stores.sources import transient

emulator = pytest.importorskip("gcp_storage_emulator.server")
storage = pytest.importorskip("google.cloud.storage")

from google.auth.credentials import AnonymousCredentials  # noqa: E402

from runtimes.storage import gs  # noqa: E402


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = emulator.create_server("127.0.0.1", 0, in_memory=True)
    server.start()
    host, port = server._api._httpd.socket.getsockname()
    yield f"http://{host}:{port}"
    server.stop()


@dataclass(frozen=True)
class Bucket:
    """An empty bucket."""

    client: Any
    endpoint: str

    def put(self, name: str, content: bytes) -> None:
        self.client.blob(name).upload_from_string(content)

    def mark_directory(self, name: str) -> None:
        self.put(f"{name}/", b"")

    def delete(self, name: str) -> None:
        self.client.blob(name).delete()

    def open(self, path: str, bucket: str = BUCKET) -> gs.GoogleSource:
        return source(self.endpoint, path, bucket)


def source(endpoint: str, path: str, bucket: str = BUCKET) -> gs.GoogleSource:
    return gs.open_source(parse_uri(f"gs://{bucket}/{path}"), {"STORAGE_EMULATOR_HOST": endpoint})


@pytest.fixture
def store(endpoint: str) -> Iterator[Bucket]:
    options = {"api_endpoint": endpoint}
    client = storage.Client(credentials=AnonymousCredentials(), project="test", client_options=options)
    made = client.create_bucket(BUCKET)
    yield Bucket(made, endpoint)
    for blob in made.list_blobs():
        blob.delete()
    made.delete()
    client.close()


class TestFiles(ObjectStoreContract):
    """Without replacements: the emulator knows no generations, and answers with the new content."""

    def test_a_large_object_comes_in_several_requests(self, store: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gs, "_REQUEST_BYTES", 7)
        content = bytes(range(100))
        store.put("m", content)
        with contextlib.closing(store.open("m")) as opened:
            (file,) = opened.list()
            assert b"".join(opened.read(file, 0, None)) == content
            assert b"".join(opened.read(file, 10, 15)) == content[10:25]
            assert file.digest == Digest(Algorithm.MD5, hashlib.md5(content).hexdigest())


def test_a_store_that_does_not_answer_is_tried_again() -> None:
    error = transient(source("http://127.0.0.1:1", "m"))
    assert isinstance(error, StorageUnavailable)
    assert "http://127.0.0.1:1" in str(error)


def test_a_uri_without_a_bucket() -> None:
    with pytest.raises(BadUri, match="gs://BUCKET/PATH"):
        gs.open_source(parse_uri("gs:///m"), {})


@pytest.mark.parametrize("content", [None, "no JSON", json.dumps({"type": "what"})])
def test_credentials_that_cannot_be_read_are_named(
    tmp_path: Path, content: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key.json"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    opened = gs.open_source(parse_uri("gs://b/m"), os.environ)
    with pytest.raises(BadSetting, match=rf"GOOGLE_APPLICATION_CREDENTIALS = {file} cannot be used"):
        opened.list()
