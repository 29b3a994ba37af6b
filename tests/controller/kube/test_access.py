from __future__ import annotations

import asyncio
import base64
import ipaddress
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from controller.base.errors import UserError
from controller.kube.access import load_access
from controller.kube.client import KubeClient
from controller.kube.errors import Unavailable
from controller.kube.resources import NODES
from tests.controller.kube.scripted_api import ScriptedApi, write_kubeconfig


def test_a_missing_kubeconfig_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ladle up"):
        load_access(tmp_path / "none")


def test_a_file_that_is_no_kubeconfig_is_named(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("- a\n")
    with pytest.raises(UserError, match="is not a kubeconfig"):
        load_access(tmp_path / "config")
    (tmp_path / "config").write_text("current-context: gone\n")
    with pytest.raises(UserError, match="gone"):
        load_access(tmp_path / "config")


def test_a_server_without_scheme_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cluster\.server"):
        load_access(write_kubeconfig(tmp_path / "config", {"server": "127.0.0.1:6443"}, {}))


def test_the_environment_names_the_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_kubeconfig(tmp_path / "config", {"server": "http://127.0.0.1:1/"}, {})
    monkeypatch.setenv("KUBECONFIG", str(file))
    assert load_access(None).server == "http://127.0.0.1:1"


def test_outside_of_a_pod_the_service_account_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    with pytest.raises(UserError, match="service account"):
        load_access(None)


async def test_merged_kubeconfigs_are_read_by_the_official_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write_kubeconfig(tmp_path / "first", {"server": "http://127.0.0.1:1"}, {"token": "t"})
    second = write_kubeconfig(tmp_path / "second", {"server": "http://127.0.0.1:2"}, {})
    monkeypatch.setenv("KUBECONFIG", f"{first}:{second}")
    access = load_access(None)
    assert access.server == "http://127.0.0.1:1"
    assert access.authorization is not None
    assert await access.authorization() == "Bearer t"


async def test_a_token_file_is_read_anew_for_each_request(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one\n")
    access = load_access(
        write_kubeconfig(tmp_path / "config", {"server": "http://127.0.0.1:1"}, {"tokenFile": "token"})
    )
    assert access.authorization is not None
    assert await access.authorization() == "Bearer one"
    (tmp_path / "token").write_text("two\n")
    assert await access.authorization() == "Bearer two"


async def test_a_password_becomes_basic_authorization(tmp_path: Path) -> None:
    user = {"username": "ann", "password": "pw"}
    access = load_access(write_kubeconfig(tmp_path / "config", {"server": "http://127.0.0.1:1"}, user))
    assert access.authorization is not None
    assert await access.authorization() == f"Basic {base64.b64encode(b'ann:pw').decode()}"


async def test_an_exec_plugin_gives_the_token(tmp_path: Path) -> None:
    credential = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "from-plugin"},
    }
    plugin = tmp_path / "plugin"
    plugin.write_text(f"#!/bin/sh\ncat <<'END'\n{orjson.dumps(credential).decode()}\nEND\n")
    plugin.chmod(0o755)
    spec = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin), "interactiveMode": "Never"}
    file = write_kubeconfig(tmp_path / "config", {"server": "http://127.0.0.1:1"}, {"exec": spec})
    access = await asyncio.to_thread(load_access, file)
    assert access.authorization is not None
    assert await access.authorization() == "Bearer from-plugin"


def test_a_plain_kubeconfig_does_not_import_the_official_package(tmp_path: Path) -> None:
    file = write_kubeconfig(tmp_path / "config", {"server": "http://127.0.0.1:1"}, {"token": "t"})
    program = "import sys, pathlib; from controller.kube.access import load_access; import controller.kube.informer;"
    program += f"load_access(pathlib.Path({str(file)!r})); sys.exit('kubernetes' in sys.modules)"

    async def run() -> int:
        import sys

        process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
        return await process.wait()

    assert asyncio.run(run()) == 0


@dataclass
class Authority:
    """A certificate authority of one test, and the folder where it keeps what it signs."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    folder: Path

    def sign(self, name: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(name, key, self.certificate.subject, self.key)
        return _write(self.folder / f"{name}.crt", certificate), _write_key(self.folder / f"{name}.key", key)

    @property
    def file(self) -> Path:
        return _write(self.folder / "ca.crt", self.certificate)


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Name | None, issuer_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(tz=UTC)
    builder = x509.CertificateBuilder(
        issuer_name=issuer or subject,
        subject_name=subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - timedelta(hours=1),
        not_valid_after=now + timedelta(hours=1),
    )
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = builder.add_extension(names, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    return builder.sign(issuer_key, hashes.SHA256())


def _write(path: Path, certificate: x509.Certificate) -> Path:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> Path:
    encoding, layout = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(encoding, layout, serialization.NoEncryption()))
    return path


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    return Authority(key, _certificate("ca", key, None, key), tmp_path)


@pytest.fixture
async def tls_server(authority: Authority) -> AsyncIterator[TestServer]:
    """An API server that wants a client certificate of the same authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.file))
    context.load_cert_chain(*authority.sign("server"))
    context.verify_mode = ssl.CERT_REQUIRED
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", ScriptedApi().handle)
    server = TestServer(app, scheme="https")
    await server.start_server(ssl=context)
    yield server
    await server.close()


async def test_client_certificates_and_the_clusters_authority_are_used(
    authority: Authority, tls_server: TestServer, tmp_path: Path
) -> None:
    certificate, key = authority.sign("client")
    inline = {
        "client-certificate-data": base64.b64encode(certificate.read_bytes()).decode(),
        "client-key-data": base64.b64encode(key.read_bytes()).decode(),
    }
    server = str(tls_server.make_url("/"))
    as_files = {"client-certificate": certificate.name, "client-key": key.name}
    for number, user in enumerate((inline, as_files)):
        cluster = {"server": server, "certificate-authority": "ca.crt"}
        file = write_kubeconfig(tmp_path / f"config{number}", cluster, user)
        async with KubeClient.open(file, user_agent="test") as client:
            assert (await client.list(NODES)).items == []


async def test_a_server_of_another_authority_is_not_trusted(
    authority: Authority, tls_server: TestServer, tmp_path: Path
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    other = base64.b64encode(_certificate("other", key, None, key).public_bytes(serialization.Encoding.PEM)).decode()
    cluster = {"server": str(tls_server.make_url("/")), "certificate-authority-data": other}
    async with KubeClient.open(write_kubeconfig(tmp_path / "config", cluster, {}), user_agent="test") as client:
        with pytest.raises(Unavailable, match="certificate"):
            await client.list(NODES)
