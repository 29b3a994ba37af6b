"""s3:// against moto's server: which objects, how they are read, and what the messages say."""

from __future__ import annotations

import contextlib
import hashlib
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from ladle.errors import StorageUnavailable
from runtimes.storage.uri import AccessDenied, BadSetting, BadUri, NoSuchSource, parse_uri
from tests.runtimes.stores.contract import BUCKET, ObjectStoreContract, ReplacementContract
from tests.runtimes.stores.sources import contents, transient

moto_server = pytest.importorskip("moto.server")
botocore_session = pytest.importorskip("botocore.session")

from runtimes.storage import s3  # noqa: E402
from runtimes.storage.s3_settings import S3Settings, parse_s3_settings  # noqa: E402

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = moto_server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def _no_machine_role(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/nonexistent")  # No profile of whoever runs this.


@pytest.fixture(scope="module")
def client(endpoint: str) -> Iterator[Any]:
    """An SDK's client of the server."""
    client = botocore_session.get_session().create_client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
    )
    yield client
    client.close()


@dataclass(frozen=True)
class Bucket:
    """An empty bucket and nothing else on the server."""

    client: Any
    endpoint: str

    def put(self, name: str, content: bytes, **given: str) -> None:
        self.client.put_object(Bucket=BUCKET, Key=name, Body=content, **given)

    def mark_directory(self, name: str) -> None:
        self.put(f"{name}/", b"")

    def delete(self, name: str) -> None:
        self.client.delete_object(Bucket=BUCKET, Key=name)

    def open(self, path: str, bucket: str = BUCKET, **env: str) -> s3.S3Source:
        return source(self.endpoint, path, bucket, **env)


def source(endpoint: str, path: str, bucket: str = BUCKET, **env: str) -> s3.S3Source:
    return s3.open_source(parse_uri(f"s3://{bucket}/{path}"), {**KEYS, "AWS_ENDPOINT_URL": endpoint, **env})


@pytest.fixture
def store(endpoint: str, client: Any) -> Bucket:
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST"), timeout=10).close()
    client.create_bucket(Bucket=BUCKET)
    return Bucket(client, endpoint)


@contextlib.contextmanager
def only_known_keys(endpoint: str) -> Iterator[None]:
    """Inside, the server checks who asks, and knows nobody."""

    def unchecked(count: str) -> None:
        headers = {"Content-Type": "text/plain"}
        request = urllib.request.Request(f"{endpoint}/moto-api/reset-auth", data=count.encode(), headers=headers)
        urllib.request.urlopen(request, timeout=10).close()

    unchecked("0")
    try:
        yield
    finally:
        unchecked("inf")


def user_with(endpoint: str, *statements: dict[str, str]) -> dict[str, str]:
    """The keys of a new user who may do what these statements of a policy say, and nothing else."""
    iam = botocore_session.get_session().create_client(
        "iam", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s"
    )
    iam.create_user(UserName="reader")
    if statements:
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **item} for item in statements]}
        iam.put_user_policy(UserName="reader", PolicyName="p", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    iam.close()
    return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


class TestFiles(ObjectStoreContract, ReplacementContract):
    def test_more_objects_than_a_page_holds(self, store: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")  # The server runs in this process.
        names = [f"{number}" for number in range(5)]
        for name in names:
            store.put(f"m/{name}", b"")
        assert contents(store.open("m")) == dict.fromkeys(names, b"")

    def test_the_version_is_the_etag(self, store: Bucket) -> None:
        store.put("m", b"1234")
        with contextlib.closing(store.open("m")) as opened:
            (file,) = opened.list()
        assert file.version == f'"{hashlib.md5(b"1234").hexdigest()}"'

    def test_an_etag_that_is_no_digest_is_not_taken_for_one(self, store: Bucket) -> None:
        store.put("m/kms", b"1234", ServerSideEncryption="aws:kms")
        parts = {"Bucket": BUCKET, "Key": "m/parts"}
        upload = store.client.create_multipart_upload(**parts)["UploadId"]
        part = store.client.upload_part(**parts, UploadId=upload, PartNumber=1, Body=b"1234")
        made = {"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]}
        store.client.complete_multipart_upload(**parts, UploadId=upload, MultipartUpload=made)
        with contextlib.closing(store.open("m")) as opened:
            assert [file.digest for file in opened.list()] == [None, None]


class TestMessages:
    def test_a_missing_bucket_may_be_at_another_server(self, store: Bucket) -> None:
        with pytest.raises(NoSuchSource, match=r"bucket nowhere does not exist.*AWS_ENDPOINT_URL"):
            store.open("m", "nowhere").list()

    def test_no_credentials(self, store: Bucket) -> None:
        opened = store.open("m", AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
        with pytest.raises(AccessDenied, match=r"no credentials.*AWS_ACCESS_KEY_ID.*awsAnonymousCredential"):
            opened.list()

    def test_keys_that_the_store_does_not_know(self, store: Bucket) -> None:
        opened = store.open("m", AWS_ACCESS_KEY_ID="AKIAWRONG")
        with (
            only_known_keys(store.endpoint),
            pytest.raises(AccessDenied, match=r"does not accept the keys \(InvalidAcc"),
        ):
            opened.list()

    def test_keys_that_may_not_read(self, store: Bucket) -> None:
        opened = store.open("m", **user_with(store.endpoint))
        with (
            only_known_keys(store.endpoint),
            pytest.raises(AccessDenied, match=r"s3:ListBucket on models.*s3:GetObject"),
        ):
            opened.list()

    def test_a_store_that_does_not_answer_is_tried_again(self) -> None:
        opened = source("http://127.0.0.1:1", "m")
        error = transient(opened)
        assert isinstance(error, StorageUnavailable)
        assert "http://127.0.0.1:1" in str(error)
        assert "AWS_ENDPOINT_URL" in str(error)

    def test_a_bucket_name_that_cannot_be(self, endpoint: str) -> None:
        with pytest.raises(BadUri, match="no bucket"):
            s3.open_source(parse_uri("s3:///m"), KEYS)
        with pytest.raises(BadUri, match="Invalid bucket name"):
            s3.open_source(parse_uri("s3://a b/m"), {**KEYS, "AWS_ENDPOINT_URL": endpoint}).list()

    def test_a_missing_file_with_authorities(self) -> None:
        with pytest.raises(BadSetting, match=r"/no/such\.crt; check AWS_CA_BUNDLE"):
            source("https://127.0.0.1:1", "m", AWS_CA_BUNDLE="/no/such.crt")


class TestCredentials:
    def test_a_public_bucket_without_credentials(self, store: Bucket) -> None:
        store.put("m", b"12", ACL="public-read")
        anonymous = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "awsAnonymousCredential": "true"}
        assert contents(store.open("m", **anonymous)) == {"m": b"12"}

    def test_a_storage_spec_says_all(self, store: Bucket) -> None:
        store.put("m", b"12")
        config = (
            f'{{"type": "s3", "endpoint_url": "{store.endpoint}", "access_key_id": "k", "secret_access_key": "s",'
            ' "region": "eu"}'
        )
        opened = s3.open_source(parse_uri(f"s3://{BUCKET}/m"), {"STORAGE_CONFIG": config})
        assert contents(opened) == {"m": b"12"}

    def test_who_may_read_one_object_needs_no_right_to_list(self, store: Bucket) -> None:
        store.put("m/model.bin", b"1234")
        keys = user_with(store.endpoint, {"Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{BUCKET}/m/model.bin"})
        with only_known_keys(store.endpoint):
            assert contents(store.open("m/model.bin", **keys)) == {"model.bin": b"1234"}
            with pytest.raises(AccessDenied, match="s3:ListBucket on models"):
                store.open("m", **keys).list()

    def test_a_role_by_web_identity(self, store: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
        store.put("m", b"12")
        (tmp_path / "token").write_text("a token")
        role = {
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/reader",
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
            "AWS_ENDPOINT_URL": store.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        for name, value in role.items():
            monkeypatch.setenv(name, value)
        assert contents(s3.open_source(parse_uri(f"s3://{BUCKET}/m"), role)) == {"m": b"12"}


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, S3Settings()),
        ({"AWS_ENDPOINT_URL": "http://minio:9000/"}, S3Settings(endpoint_url="http://minio:9000")),
        ({"S3_ENDPOINT": "minio:9000", "S3_USE_HTTPS": "0"}, S3Settings(endpoint_url="http://minio:9000")),
        ({"S3_ENDPOINT": "minio:9000"}, S3Settings(endpoint_url="https://minio:9000")),
        ({"AWS_ENDPOINT_URL": "http://a", "S3_ENDPOINT": "b"}, S3Settings(endpoint_url="http://a")),
        ({"AWS_DEFAULT_REGION": "eu", "AWS_REGION": "us"}, S3Settings(region="eu")),
        ({"S3_VERIFY_SSL": "0"}, S3Settings(verify=False)),
        ({"S3_VERIFY_SSL": "false", "AWS_CA_BUNDLE": "/ca"}, S3Settings(verify=False)),
        ({"S3_VERIFY_SSL": "1", "AWS_CA_BUNDLE": "/ca"}, S3Settings(verify="/ca")),
        (
            {"CA_BUNDLE_CONFIGMAP_NAME": "m", "CA_BUNDLE_VOLUME_MOUNT_POINT": "/certs"},
            S3Settings(verify="/certs/cabundle.crt"),
        ),
        ({"AWS_CA_BUNDLE": "/ca", "CA_BUNDLE_CONFIGMAP_NAME": "m"}, S3Settings(verify="/ca")),
        ({"awsAnonymousCredential": "True"}, S3Settings(anonymous=True)),
        ({"awsAnonymousCredential": "false"}, S3Settings()),
        ({"S3_USER_VIRTUAL_BUCKET": "true"}, S3Settings(virtual_host=True)),
        ({"S3_USE_ACCELERATE": "true"}, S3Settings(accelerate=True)),
        (
            {"AWS_ENDPOINT_URL": "https://s3.amazonaws.com", "AWS_DEFAULT_REGION": "eu-west-1"},
            S3Settings(endpoint_url="https://s3.amazonaws.com", region="eu-west-1", virtual_host=True),
        ),
        (
            {"AWS_ENDPOINT_URL": "https://s3.amazonaws.com", "AWS_DEFAULT_REGION": "us-east-1"},
            S3Settings(endpoint_url="https://s3.amazonaws.com", region="us-east-1"),
        ),
        (
            {"S3_CONNECT_TIMEOUT": "5", "S3_READ_TIMEOUT": "60", "S3_MAX_ATTEMPTS": "3"},
            S3Settings(connect_timeout_s=5, read_timeout_s=60, attempts_max=3),
        ),
        (
            {
                "STORAGE_CONFIG": '{"type": "s3", "region": "eu", "verify_ssl": false, "anonymous": "true"}',
                "STORAGE_OVERRIDE_CONFIG": '{"region": "us", "endpoint_url": "http://e"}',
                "AWS_DEFAULT_REGION": "ap",
            },
            S3Settings(region="us", verify=False, anonymous=True, endpoint_url="http://e"),
        ),
        ({"STORAGE_CONFIG": '{"type": "hdfs", "region": "eu"}'}, S3Settings()),
    ],
)
def test_settings_are_read_as_kserve_reads_them(env: dict[str, str], expected: S3Settings) -> None:
    assert parse_s3_settings(env) == expected


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"AWS_ENDPOINT_URL": "minio:9000"}, "AWS_ENDPOINT_URL = minio:9000, must begin with http"),
        ({"S3_READ_TIMEOUT": "soon"}, r"S3_READ_TIMEOUT = soon, must be a number in \[1, 3600\]"),
        ({"AWS_ACCESS_KEY_ID": "k"}, "AWS_SECRET_ACCESS_KEY is not"),
        ({"AWS_SECRET_ACCESS_KEY": "k"}, "AWS_ACCESS_KEY_ID is not"),
        (
            {"STORAGE_CONFIG": '{"secret_access_key": hunter2}'},
            "STORAGE_CONFIG is no JSON: an error at line 1, column 23",
        ),
        ({"STORAGE_CONFIG": "[]"}, "STORAGE_CONFIG must be a JSON object"),
    ],
)
def test_a_setting_that_cannot_be_read_is_named(env: dict[str, str], message: str) -> None:
    with pytest.raises(BadSetting, match=message) as caught:
        parse_s3_settings(env)
    assert "hunter2" not in str(caught.value)
