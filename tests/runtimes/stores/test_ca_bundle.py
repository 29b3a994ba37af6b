"""Certificates of an authority of one's own: a hub behind TLS, and an S3, with and without the mounted bundle."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from onebox.apiserver.pki import ensure_credentials
from onebox.home import Home, OneboxSettings
from runtimes.storage.ca_bundle import mounted_authorities
from runtimes.storage.uri import AccessDenied, parse_uri
from tests.runtimes.stores.hub import Hub, Model

pytest.importorskip("huggingface_hub")
pytest.importorskip("botocore")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ca.crt, server.crt and server.key."""
    home = Home(tmp_path_factory.mktemp("pki") / "home")
    ensure_credentials(home, OneboxSettings())
    return home.pki


@pytest.fixture
def hub(pki: Path) -> Iterator[Hub]:
    """The hub behind TLS, with a certificate of an authority that nobody knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "server.crt", pki / "server.key")
    with Hub(Model(files={"config.json": b"{}"})) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def mounted(pki: Path, directory: Path) -> dict[str, str]:
    """The variables of an initializer whose config map holds the authority."""
    directory.mkdir()
    (directory / "cabundle.crt").write_bytes((pki / "ca.crt").read_bytes())
    return {"CA_BUNDLE_CONFIGMAP_NAME": "global-ca-bundle", "CA_BUNDLE_VOLUME_MOUNT_POINT": str(directory)}


def test_the_initializer_trusts_the_mounted_bundle(hub: Hub, pki: Path, tmp_path: Path) -> None:
    endpoint = hub.url.replace("http://", "https://")
    environment = {**os.environ, "HF_ENDPOINT": endpoint, **mounted(pki, tmp_path / "certs")}
    command = [sys.executable, "-m", "runtimes.storage", "hf://owner/model", str(tmp_path / "out")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/config.json").read_bytes() == b"{}"


def test_an_s3_with_an_unknown_certificate_says_what_to_set(hub: Hub) -> None:
    from runtimes.storage import s3

    env = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_ENDPOINT_URL": hub.url.replace("http", "https")}
    with pytest.raises(AccessDenied, match=r"certificate .* not trusted: set AWS_CA_BUNDLE.*S3_VERIFY_SSL=0"):
        s3.open_source(parse_uri("s3://models/m"), env).list()


def test_what_is_exported_holds_the_systems_authorities_too(pki: Path, tmp_path: Path) -> None:
    environ = mounted(pki, tmp_path / "certs")
    with mounted_authorities(environ):
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            exported = Path(environ[name]).read_bytes()
            assert (pki / "ca.crt").read_bytes() in exported
            assert exported.count(b"BEGIN CERTIFICATE") > 1
    assert {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"}.isdisjoint(environ)


def test_authorities_that_are_set_already_stay_and_come_back(pki: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.crt"
    own.write_bytes((pki / "ca.crt").read_bytes())
    environ = {**mounted(pki, tmp_path / "certs"), "SSL_CERT_FILE": str(own)}
    with mounted_authorities(environ):
        assert Path(environ["SSL_CERT_FILE"]).read_bytes().count(b"BEGIN CERTIFICATE") == 2
    assert environ["SSL_CERT_FILE"] == str(own)


@pytest.mark.parametrize("content", [None, b"-----BEGIN CERTIFICATE-----\nno certificate\n-----END CERTIFICATE-----\n"])
def test_a_bundle_that_cannot_be_used_leaves_the_systems(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "cabundle.crt").write_bytes(content)
    environ = {"CA_BUNDLE_CONFIGMAP_NAME": "m", "CA_BUNDLE_VOLUME_MOUNT_POINT": str(tmp_path)}
    with mounted_authorities(environ):
        assert "SSL_CERT_FILE" not in environ
