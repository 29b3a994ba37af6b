"""s3:// through the whole initializer: parts, unpacking, hostile keys, and what a user reads when it fails."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ladle.errors import UserError
from runtimes.storage.schemes import fetch

moto_server = pytest.importorskip("moto.server")
botocore_session = pytest.importorskip("botocore.session")

BUCKET = "models"


@pytest.fixture(scope="module")
def store() -> Iterator[tuple[Any, str]]:
    """An SDK's client, and the URL of its server."""
    server = moto_server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = botocore_session.get_session().create_client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    client.create_bucket(Bucket=BUCKET)
    yield client, f"http://{host}:{port}"
    client.close()
    server.stop()


@pytest.fixture
def client(store: tuple[Any, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The client, with the environment of an initializer that may read its bucket."""
    given = {"AWS_ENDPOINT_URL": store[1], "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "a-secret"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    monkeypatch.setenv("LADLE_STORAGE_PART_BYTES", "1000")
    return store[0]


def test_a_large_object_comes_in_parts_and_is_whole(client: Any, tmp_path: Path) -> None:
    content = bytes(range(256)) * 50
    client.put_object(Bucket=BUCKET, Key="large/model.bin", Body=content)
    client.put_object(Bucket=BUCKET, Key="large/deep/empty", Body=b"")
    fetch(f"s3://{BUCKET}/large", tmp_path / "out")
    assert (tmp_path / "out/model.bin").read_bytes() == content
    assert (tmp_path / "out/deep/empty").read_bytes() == b""


def test_a_lone_archive_is_unpacked(client: Any, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo("model.bin")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"1234"))
    client.put_object(Bucket=BUCKET, Key="packed/model.tar.gz", Body=buffer.getvalue())
    fetch(f"s3://{BUCKET}/packed/model.tar.gz", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.bin"]


@pytest.mark.parametrize("key", ["hostile/../../evil", "hostile//etc/passwd", "hostile/a/../../../evil"])
def test_a_key_that_leaves_the_destination_is_refused(client: Any, tmp_path: Path, key: str) -> None:
    client.put_object(Bucket=BUCKET, Key=key, Body=b"evil")
    try:
        with pytest.raises(UserError, match=f"s3://{BUCKET}/hostile: "):
            fetch(f"s3://{BUCKET}/hostile", tmp_path / "deep/out")
    finally:
        client.delete_object(Bucket=BUCKET, Key=key)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_failure_names_the_uri_and_no_secret(client: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^s3://models/nothing: no object at nothing in bucket models") as caught:
        fetch("s3://models/nothing", tmp_path / "out")
    assert "a-secret" not in str(caught.value)
