"""An S3 on this machine with a model in it, for tests of whatever fetches from buckets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

KEY, SECRET = "key", "a-secret-that-nobody-may-see"


@contextmanager
def s3_bucket(name: str, objects: Mapping[str, bytes]) -> Iterator[str]:
    """The endpoint of moto's S3 with one bucket of these objects by key; skips the test where moto is not installed."""
    moto_server = pytest.importorskip("moto.server")
    botocore_session = pytest.importorskip("botocore.session")
    server = moto_server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        client = botocore_session.get_session().create_client(
            "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id=KEY, aws_secret_access_key=SECRET
        )
        client.create_bucket(Bucket=name)
        for key, body in objects.items():
            client.put_object(Bucket=name, Key=key, Body=body)
        client.close()
        yield url
    finally:
        server.stop()
