"""Azure's blob storage against azurite: which blobs, how they are read, with which credentials, and what the messages say."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ladle.errors import StorageUnavailable, Unsupported
from runtimes.storage.objects import Algorithm, Changed, Digest
from runtimes.storage.schemes import fetch
from runtimes.storage.uri import AccessDenied, BadUri, NoSuchSource, parse_uri
from tests.runtimes.stores.sources import contents, transient

blob_library = pytest.importorskip("azure.storage.blob")

from runtimes.storage import azure  # noqa: E402

ROOT = Path(__file__).parents[3]
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's one account; the key stands in its documentation."""
CONTAINER = "models"
_LISTENS = re.compile(r"successfully listens on (http://[0-9.:]+)")


def azurite() -> str | None:
    installed = ROOT / ".venv/azurite/node_modules/.bin/azurite-blob"
    return str(installed) if installed.exists() else shutil.which("azurite-blob")


needs_azurite = pytest.mark.skipif(azurite() is None, reason="azurite is not installed; .ci/test-tools does it by npm")


@pytest.fixture(scope="module")
def service_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    command = azurite()
    assert command is not None
    flags = ["--blobPort", "0", "--inMemoryPersistence", "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    process = subprocess.Popen(
        [command, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path_factory.mktemp("az"),
    )
    assert process.stdout is not None
    address = next((found[1] for line in process.stdout if (found := _LISTENS.search(line))), None)
    assert address is not None, "azurite did not start"
    yield f"{address}/{ACCOUNT}"
    process.terminate()
    process.communicate()


@pytest.fixture
def container(service_url: str) -> Iterator[Any]:
    """An empty container, by Azure's own client."""
    client = blob_library.ContainerClient(
        service_url, CONTAINER, credential={"account_name": ACCOUNT, "account_key": KEY}, retry_total=3
    )
    client.create_container()
    yield client
    client.delete_container()
    client.close()


def put(container: Any, **blobs: bytes) -> None:
    for name, content in blobs.items():
        container.upload_blob(name.replace("__", "/"), content, overwrite=True)


def source(service_url: str, path: str, container: str = CONTAINER, **env: str) -> azure.AzureSource:
    uri = parse_uri(f"https://{ACCOUNT}.blob.core.windows.net/{container}/{path}")
    given = {"AZURE_SERVICE_URL": service_url, "AZURE_STORAGE_ACCESS_KEY": KEY, **env}
    return azure.open_source(uri, {name: value for name, value in given.items() if value})


@needs_azurite
class TestFiles:
    def test_what_is_below_a_path_ends_at_a_slash(self, container: Any, service_url: str) -> None:
        put(container, a__b__model=b"1234", a__b__deep__config=b"{}", a__bc__model=b"other", a__bc=b"other")
        assert contents(source(service_url, "a/b")) == {"model": b"1234", "deep/config": b"{}"}

    def test_empty_files_stay_and_directories_do_not(self, container: Any, service_url: str) -> None:
        put(container, m__empty=b"", m__model=b"1")
        container.upload_blob("m/deep", b"", metadata={"hdi_isfolder": "true"})
        assert contents(source(service_url, "m")) == {"empty": b"", "model": b"1"}

    def test_one_blob_keeps_its_name(self, container: Any, service_url: str) -> None:
        container.upload_blob("m/model.bin", b"12")
        container.upload_blob("m/model.bin2", b"other")
        assert contents(source(service_url, "m/model.bin")) == {"model.bin": b"12"}

    def test_names_may_be_encoded_in_the_uri(self, container: Any, service_url: str) -> None:
        container.upload_blob("my models/ü.bin", b"12")
        assert contents(source(service_url, "my%20models/%C3%BC.bin")) == {"ü.bin": b"12"}

    def test_a_range_is_the_bytes_asked_for(self, container: Any, service_url: str) -> None:
        put(container, m=bytes(range(100)))
        with contextlib.closing(source(service_url, "m")) as opened:
            (file,) = opened.list()
            assert b"".join(opened.read(file, 10, 5)) == bytes(range(10, 15))

    def test_the_digest_is_that_of_the_content(self, container: Any, service_url: str) -> None:
        put(container, m=b"1234")
        with contextlib.closing(source(service_url, "m")) as opened:
            (file,) = opened.list()
        assert file.digest == Digest(Algorithm.MD5, hashlib.md5(b"1234").hexdigest())

    def test_a_blob_that_was_replaced_is_noticed(self, container: Any, service_url: str) -> None:
        put(container, m=b"1234")
        with contextlib.closing(source(service_url, "m")) as opened:
            (file,) = opened.list()
            put(container, m=b"5678")
            with pytest.raises(Changed, match="blob m is not what was listed"):
                list(opened.read(file, 0, None))


@needs_azurite
class TestMessages:
    def test_a_missing_container(self, service_url: str) -> None:
        with pytest.raises(NoSuchSource, match="container nowhere does not exist"):
            source(service_url, "m", "nowhere").list()

    def test_nothing_below_the_path(self, container: Any, service_url: str) -> None:
        with pytest.raises(NoSuchSource, match="no blob at some/path in container models"):
            source(service_url, "some/path").list()

    def test_a_key_that_is_not_the_accounts(self, container: Any, service_url: str) -> None:
        with pytest.raises(AccessDenied, match=r"Storage Blob Data Reader.*AZURE_STORAGE_ACCESS_KEY"):
            source(service_url, "m", AZURE_STORAGE_ACCESS_KEY="d3Jvbmc=").list()

    def test_a_private_container_without_credentials(self, container: Any, service_url: str) -> None:
        with pytest.raises((AccessDenied, NoSuchSource), match="AZURE_STORAGE_ACCESS_KEY"):
            source(service_url, "m", AZURE_STORAGE_ACCESS_KEY="").list()


@needs_azurite
def test_a_signature_in_the_uri_is_enough(container: Any, service_url: str, tmp_path: Path) -> None:
    put(container, m=b"12")
    signature = blob_library.generate_container_sas(
        ACCOUNT, CONTAINER, account_key=KEY, permission="rl", expiry="2099-01-01T00:00:00Z"
    )
    assert contents(source(service_url, f"m?{signature}", AZURE_STORAGE_ACCESS_KEY="")) == {"m": b"12"}


@needs_azurite
def test_a_public_container_needs_nothing(container: Any, service_url: str) -> None:
    put(container, m=b"12")
    container.set_container_access_policy({}, public_access="container")
    assert contents(source(service_url, "m", AZURE_STORAGE_ACCESS_KEY="")) == {"m": b"12"}


def test_an_account_that_does_not_answer() -> None:
    error = transient(source("http://127.0.0.1:1/account", "m"))
    assert isinstance(error, StorageUnavailable)
    assert "http://127.0.0.1:1/account" in str(error)


def test_a_uri_names_a_container() -> None:
    with pytest.raises(BadUri, match="CONTAINER/PATH"):
        azure.open_source(parse_uri("https://account.blob.core.windows.net/"), {})


@pytest.mark.parametrize("host", ["account.file.core.windows.net", "account.z12.file.storage.azure.net"])
def test_file_shares_are_refused_with_a_way_out(host: str, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="mount the share"):
        fetch(f"https://{host}/share/path", tmp_path)


@pytest.mark.parametrize(
    ("env", "kind"),
    [
        ({}, type(None)),
        ({"AZURE_CLIENT_ID": "c", "AZURE_TENANT_ID": "t", "AZURE_CLIENT_SECRET": "s"}, azure.ClientSecretCredential),
        ({"AZ_CLIENT_ID": "c", "AZ_TENANT_ID": "t", "AZ_CLIENT_SECRET": "s"}, azure.ClientSecretCredential),
        ({"AZURE_CLIENT_ID": "c"}, azure.DefaultAzureCredential),
        ({"AZURE_ACCESS_TOKEN": "t", "AZURE_ACCESS_EXPIRES_ON_SECONDS": "1"}, azure._Token),
        ({"AZURE_STORAGE_ACCESS_KEY": "k"}, dict),
    ],
)
def test_credentials_are_taken_in_kserves_order(env: dict[str, str], kind: type) -> None:
    assert isinstance(azure._credential(env, account="a"), kind)
