"""A transformer that asks its predictor over TLS: with certificates of an authority that the test makes, and wrong ones."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop

from ladle import Transformer
from ladle.errors import UserError
from ladle.transformer.settings import PredictorSettings, Protocol
from tests.ladle.server.models import SumModel
from tests.ladle.server.serving import Served, served
from tests.ladle.transformer.fronts import fronted

PROTOCOLS = ["v1", "v2", "grpc-v2"]
ROWS = {"instances": [[1.0, 2.0]]}


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """These tests run on the loop that servers run on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> str:
    """The authority's certificate as a file."""
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@contextlib.asynccontextmanager
async def behind_tls(port: int, certificate: trustme.LeafCert) -> AsyncIterator[int]:
    """A port where TLS ends, as at an ingress: what comes goes on to the other port in plain."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2", "http/1.1"])
    certificate.configure_cert(context)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@contextlib.asynccontextmanager
async def through_tls(
    protocol: str, certificate: trustme.LeafCert, *, host: str = "localhost", **given: Any
) -> AsyncIterator[tuple[Served, str]]:
    """A transformer before a predictor behind TLS, and the predictor's host."""
    async with served(SumModel("m"), grpc_port=0) as behind:
        port = behind.server.grpc_port if protocol == Protocol.GRPC else behind.port
        async with behind_tls(port, certificate) as tls_port:
            where = f"{host}:{tls_port}"
            settings = PredictorSettings(host=where, protocol=Protocol(protocol), tls=True, **given)
            async with fronted(Transformer("m", settings)) as app:
                yield app, where


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_certificate_of_the_authority_is_believed(
    authority: trustme.CA, bundle: str, protocol: str, host: str
) -> None:
    async with through_tls(protocol, authority.issue_cert(host), host=host, authorities=bundle) as (app, _):
        for _ in range(2):  # The second one on the same connection.
            answer = await app.v1("m", ROWS)
            assert (answer.status, json.loads(answer.body)) == (200, {"predictions": [3.0]})


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_one_of_another_authority_is_not_and_the_error_says_what_to_do(bundle: str, protocol: str) -> None:
    stranger = trustme.CA().issue_cert("localhost")
    async with through_tls(protocol, stranger, authorities=bundle, retries=3) as (app, where):
        answer = await app.v1("m", ROWS)
    error = json.loads(answer.body)["error"]
    assert (answer.status, error.partition(":")[0]) == (502, f"predictor {where.partition(':')[0]}")
    assert f"predictor {where} is not trusted" in error
    assert "name the file of its authority in REQUESTS_CA_BUNDLE" in error


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_one_for_another_name_is_not_believed(authority: trustme.CA, bundle: str, protocol: str) -> None:
    other = authority.issue_cert("elsewhere.example.com")
    async with through_tls(protocol, other, authorities=bundle) as (app, where):
        answer = await app.v1("m", ROWS)
    assert answer.status == 502
    assert f"predictor {where} is not trusted" in json.loads(answer.body)["error"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_the_machines_own_authorities_do_not_know_it(authority: trustme.CA, protocol: str) -> None:
    async with through_tls(protocol, authority.issue_cert("localhost")) as (app, where):
        answer = await app.v1("m", ROWS)
    assert answer.status == 502
    assert f"predictor {where} is not trusted" in json.loads(answer.body)["error"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_predictor_without_tls_is_named_as_such(bundle: str, protocol: str) -> None:
    async with served(SumModel("m"), grpc_port=0) as behind:
        where = f"localhost:{behind.port}"  # HTTP/1.1 in plain, which answers nonsense with 400.
        settings = PredictorSettings(host=where, protocol=Protocol(protocol), tls=True, authorities=bundle)
        async with fronted(Transformer("m", settings)) as app:
            answer = await app.v1("m", ROWS)
    assert answer.status == 502
    error = json.loads(answer.body)["error"]
    assert f"predictor {where} does not speak TLS with us" in error
    assert "--predictor_use_ssl" in error


class TestSettings:
    TLS = ("--predictor_use_ssl=true",)

    def test_kserves_variable_names_the_file_before_openssls(self, bundle: str) -> None:
        found = PredictorSettings.parse(self.TLS, {"REQUESTS_CA_BUNDLE": bundle, "SSL_CERT_FILE": "/nowhere"})
        assert found.authorities == bundle
        assert PredictorSettings.parse(self.TLS, {"SSL_CERT_FILE": bundle}).authorities == bundle
        assert PredictorSettings.parse(self.TLS, {}).authorities == ""

    def test_without_tls_nobody_reads_it(self) -> None:
        assert PredictorSettings.parse([], {"REQUESTS_CA_BUNDLE": "/nowhere"}).authorities == ""

    def test_a_file_that_is_none_is_named_at_the_start(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="REQUESTS_CA_BUNDLE = /nowhere, cannot be read: No such file"):
            PredictorSettings.parse(self.TLS, {"REQUESTS_CA_BUNDLE": "/nowhere"})
        (tmp_path / "key").write_text("no certificate")
        with pytest.raises(UserError, match="must be a file of certificates in PEM"):
            PredictorSettings.parse(self.TLS, {"SSL_CERT_FILE": str(tmp_path / "key")})
