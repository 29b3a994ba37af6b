"""Azure's blob storage against azurite: which blobs, how they are read, with which credentials, and what the messages say."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from ladle.errors import StorageUnavailable, Unsupported
from runtimes.storage.schemes import fetch
from runtimes.storage.uri import AccessDenied, BadUri, NoSuchSource, parse_uri
from tests.runtimes.stores.contract import BUCKET, ObjectStoreContract, ReplacementContract
from tests.runtimes.stores.sources import contents, transient

blob_library = pytest.importorskip("azure.storage.blob")

from runtimes.storage import azure  # noqa: E402

ROOT = Path(__file__).parents[3]
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's one account; the key stands in its documentation."""
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


@dataclass(frozen=True)
class Container:
    """An empty container."""

    client: Any
    service_url: str

    def put(self, name: str, content: bytes, **given: Any) -> None:
        self.client.upload_blob(name, content, overwrite=True, **given)

    def mark_directory(self, name: str) -> None:
        self.put(name, b"", metadata={"hdi_isfolder": "true"})

    def delete(self, name: str) -> None:
        self.client.delete_blob(name)

    def open(self, path: str, bucket: str = BUCKET, **env: str) -> azure.AzureSource:
        return source(self.service_url, quote(path), bucket, **env)


def source(service_url: str, path: str, container: str = BUCKET, **env: str) -> azure.AzureSource:
    uri = parse_uri(f"https://{ACCOUNT}.blob.core.windows.net/{container}/{path}")
    given = {"AZURE_SERVICE_URL": service_url, "AZURE_STORAGE_ACCESS_KEY": KEY, **env}
    return azure.open_source(uri, {name: value for name, value in given.items() if value})


@pytest.fixture
def store(service_url: str) -> Iterator[Container]:
    client = blob_library.ContainerClient(
        service_url, BUCKET, credential={"account_name": ACCOUNT, "account_key": KEY}, retry_total=3
    )
    client.create_container()
    yield Container(client, service_url)
    client.delete_container()
    client.close()


@needs_azurite
class TestFiles(ObjectStoreContract, ReplacementContract):
    pass


@needs_azurite
class TestCredentials:
    def test_a_key_that_is_not_the_accounts(self, store: Container) -> None:
        with pytest.raises(AccessDenied, match=r"Storage Blob Data Reader.*AZURE_STORAGE_ACCESS_KEY"):
            store.open("m", AZURE_STORAGE_ACCESS_KEY="d3Jvbmc=").list()

    def test_a_private_container_without_credentials(self, store: Container) -> None:
        with pytest.raises((AccessDenied, NoSuchSource), match="AZURE_STORAGE_ACCESS_KEY"):
            store.open("m", AZURE_STORAGE_ACCESS_KEY="").list()

    def test_a_signature_in_the_uri_is_enough(self, store: Container) -> None:
        store.put("m", b"12")
        signature = blob_library.generate_container_sas(
            ACCOUNT, BUCKET, account_key=KEY, permission="rl", expiry="2099-01-01T00:00:00Z"
        )
        opened = source(store.service_url, f"m?{signature}", AZURE_STORAGE_ACCESS_KEY="")
        assert contents(opened) == {"m": b"12"}

    def test_a_public_container_needs_nothing(self, store: Container) -> None:
        store.put("m", b"12")
        store.client.set_container_access_policy({}, public_access="container")
        assert contents(store.open("m", AZURE_STORAGE_ACCESS_KEY="")) == {"m": b"12"}


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
