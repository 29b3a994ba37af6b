"""What a transformer understands of KServe's flags, and where it connects."""

from __future__ import annotations

import pytest

from ladle.errors import UserError
from ladle.server.cluster_names import is_cluster_name
from ladle.transformer.settings import PredictorSettings, Protocol, split_address

GATEWAY = "127.0.0.1:30001"


def test_kserves_flags_in_either_spelling() -> None:
    argv = ["--predictor_host", "p.default", "--predictor-protocol=grpc-v2", "--predictor_use_ssl=true", "--other"]
    found = PredictorSettings.parse([*argv, "--predictor_request_retries=3"], {})
    assert (found.host, found.protocol, found.tls, found.retries) == ("p.default", Protocol.GRPC, True, 3)
    assert found.timeout_s == 600


@pytest.mark.parametrize(("seconds", "timeout_s"), [("300", 300), ("900", 600), ("0", 600)])
def test_nobody_waits_longer_than_the_revision_may_take(seconds: str, timeout_s: float) -> None:
    assert PredictorSettings.parse([], {"REVISION_TIMEOUT_SECONDS": seconds}).timeout_s == timeout_s


@pytest.mark.parametrize(
    ("flag", "error"),
    [
        ("--predictor_protocol=v3", "--predictor_protocol = v3, must be one of v1, v2, grpc-v2"),
        ("--predictor_use_ssl=maybe", "--predictor_use_ssl = maybe, must be true or false"),
        ("--predictor_request_retries=11", r"--predictor_request_retries = 11, must be in \[0, 10\]"),
        ("--predictor_request_timeout_seconds=0", "must be more than 0"),
    ],
)
def test_a_value_that_is_none_names_the_flag(flag: str, error: str) -> None:
    with pytest.raises(UserError, match=error):
        PredictorSettings.parse([flag], {})


@pytest.mark.parametrize(
    ("host", "tls", "gateway", "address"),
    [
        ("iris-predictor.default", False, GATEWAY, ("127.0.0.1", 30001)),
        ("iris-predictor.default.svc.cluster.local", False, GATEWAY, ("127.0.0.1", 30001)),
        ("iris-predictor.default", False, "", ("iris-predictor.default", 80)),
        ("iris-predictor.default", True, "", ("iris-predictor.default", 443)),
        ("localhost:8085", False, GATEWAY, ("localhost", 8085)),
        ("127.0.0.1:9", False, GATEWAY, ("127.0.0.1", 9)),
        ("models.example.com", False, GATEWAY, ("models.example.com", 80)),
        ("[::1]:9", False, GATEWAY, ("::1", 9)),
    ],
)
def test_only_cluster_local_names_lead_to_the_gateway(
    host: str, tls: bool, gateway: str, address: tuple[str, int]
) -> None:
    settings = PredictorSettings(host=host, tls=tls, gateway=gateway)
    assert (settings.address, settings.authority) == (address, host)


def test_a_port_that_is_none_is_named() -> None:
    with pytest.raises(UserError, match="--predictor_host = a:b, its port must be a number"):
        split_address("a:b", 80)


def test_an_address_is_no_cluster_name() -> None:
    assert not is_cluster_name("10.0.0.1")
    assert is_cluster_name("a.b")
