"""gs:// against an emulator: which objects, how they are read, and what the messages say."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ladle.errors import StorageUnavailable
from runtimes.storage.objects import Algorithm, Changed, Digest
from runtimes.storage.uri import BadSetting, BadUri, NoSuchSource, parse_uri
from tests.runtimes.stores.sources import contents, transient

emulator = pytest.importorskip("gcp_storage_emulator.server")
storage = pytest.importorskip("google.cloud.storage")

from google.auth.credentials import AnonymousCredentials  # noqa: E402

from runtimes.storage import gs  # noqa: E402

BUCKET = "models"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = emulator.create_server("127.0.0.1", 0, in_memory=True)
    server.start()
    host, port = server._api._httpd.socket.getsockname()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str) -> Iterator[Any]:
    """An empty bucket, by Google's own client."""
    options = {"api_endpoint": endpoint}
    client = storage.Client(credentials=AnonymousCredentials(), project="test", client_options=options)
    made = client.create_bucket(BUCKET)
    yield made
    for blob in made.list_blobs():
        blob.delete()
    made.delete()
    client.close()


def put(bucket: Any, **objects: bytes) -> None:
    for key, content in objects.items():
        bucket.blob(key.replace("__", "/")).upload_from_string(content)


def source(endpoint: str, path: str, bucket: str = BUCKET) -> gs.GoogleSource:
    return gs.open_source(parse_uri(f"gs://{bucket}/{path}"), {"STORAGE_EMULATOR_HOST": endpoint})


def test_what_is_below_a_path_ends_at_a_slash(bucket: Any, endpoint: str) -> None:
    put(bucket, a__b__model=b"1234", a__b__deep__config=b"{}", a__bc__model=b"other", a__bc=b"other")
    assert contents(source(endpoint, "a/b")) == {"model": b"1234", "deep/config": b"{}"}


def test_empty_files_stay_and_directory_marks_do_not(bucket: Any, endpoint: str) -> None:
    put(bucket, m__empty=b"", m__dir__=b"", m__model=b"1")
    assert contents(source(endpoint, "m")) == {"empty": b"", "model": b"1"}


def test_one_object_keeps_its_name(bucket: Any, endpoint: str) -> None:
    bucket.blob("m/model.bin").upload_from_string(b"12")
    bucket.blob("m/model.bin2").upload_from_string(b"other")
    assert contents(source(endpoint, "m/model.bin")) == {"model.bin": b"12"}


def test_a_bucket_alone_is_all_of_it(bucket: Any, endpoint: str) -> None:
    put(bucket, model=b"12", a__b=b"3")
    assert contents(source(endpoint, "")) == {"model": b"12", "a/b": b"3"}


def test_a_large_object_comes_in_several_requests(bucket: Any, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gs, "_REQUEST_BYTES", 7)
    content = bytes(range(100))
    put(bucket, m=content)
    with contextlib.closing(source(endpoint, "m")) as opened:
        (file,) = opened.list()
        assert b"".join(opened.read(file, 0, None)) == content
        assert b"".join(opened.read(file, 10, 15)) == content[10:25]
        assert file.digest == Digest(Algorithm.MD5, hashlib.md5(content).hexdigest())


def test_an_object_that_was_deleted_is_noticed(bucket: Any, endpoint: str) -> None:
    put(bucket, m=b"1234")
    with contextlib.closing(source(endpoint, "m")) as opened:
        (file,) = opened.list()
        bucket.blob("m").delete()
        with pytest.raises(Changed, match="object m is not what was listed"):
            list(opened.read(file, 0, None))


def test_a_missing_bucket(endpoint: str) -> None:
    with pytest.raises(NoSuchSource, match="bucket nowhere does not exist"):
        source(endpoint, "m", "nowhere").list()


def test_nothing_below_the_path(bucket: Any, endpoint: str) -> None:
    put(bucket, other=b"1")
    with pytest.raises(NoSuchSource, match=f"no object at some/path in bucket {BUCKET}"):
        source(endpoint, "some/path").list()


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
