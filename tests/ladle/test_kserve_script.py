"""Which ports and how many processes a KServe script gets: what it says, what the command line says, what the node says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ladle.kserve_compat.script import options_of


def model_server(**said: Any) -> Any:
    """What kserve.ModelServer keeps of its arguments, with its defaults."""
    return SimpleNamespace(**{"http_port": 8080, "grpc_port": 8081, "enable_grpc": True, "workers": 1, **said})


@pytest.mark.parametrize(
    ("said", "argv", "env", "http_port", "grpc_port"),
    [
        ({}, [], {}, 8080, 8081),
        ({"http_port": 9000, "grpc_port": 9001}, [], {}, 9000, 9001),
        ({"enable_grpc": False}, [], {}, 8080, None),
        ({}, [], {"PORT": "7000"}, 7000, 8081),
        ({"http_port": 9000}, ["--http_port=9000"], {"PORT": "7000"}, 9000, 8081),
        ({"http_port": 9000}, [], {"LADLE_HTTP_PORT": "20001"}, 20001, None),
        ({"http_port": 9000}, [], {"LADLE_HTTP_PORT": "20001", "LADLE_GRPC_PORT": "20002"}, 20001, 20002),
        ({"enable_grpc": False}, [], {"LADLE_HTTP_PORT": "20001", "LADLE_GRPC_PORT": "20002"}, 20001, None),
    ],
)
def test_ports(said: Any, argv: list[str], env: dict[str, str], http_port: int, grpc_port: int | None) -> None:
    options = options_of(model_server(**said), argv, env)
    assert (options.http_port, options.grpc_port) == (http_port, grpc_port)


@pytest.mark.parametrize(("said", "argv"), [({"workers": 4}, []), ({}, ["--workers=4"])])
def test_one_process_serves_whatever_a_script_says(said: Any, argv: list[str]) -> None:
    assert options_of(model_server(**said), argv, {}).workers == 1
