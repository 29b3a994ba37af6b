"""A taken port says by whom and which flag helps; internal ports move out of the way."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from controller.base.errors import UserError
from onebox.home import OneboxSettings
from onebox.ports import check_ports, is_free, scatter_internal_ports
from tests.ports import free_port


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_that_listens_is_not_free(taken: int) -> None:
    assert not is_free(taken)
    assert is_free(free_port())


@pytest.mark.parametrize(("name", "flag"), [("api_port", "--api-port"), ("gateway_port", "--gateway-port")])
def test_a_taken_port_names_its_owner_and_the_flag(taken: int, name: str, flag: str) -> None:
    ports = {"api_port": free_port(), "gateway_port": free_port(), name: taken}
    with pytest.raises(UserError) as raised:
        check_ports(OneboxSettings(**ports))
    assert f"port {taken} is taken by" in raised.value.message
    assert f"pid {os.getpid()}" in raised.value.message
    assert flag in raised.value.message


def test_internal_ports_move_out_of_the_way(taken: int) -> None:
    settings = check_ports(OneboxSettings(api_port=free_port(), gateway_port=free_port(), activator_port=taken))
    assert settings.activator_port != taken
    ports = [value for name, value in vars_of(settings).items() if name.endswith("_port")]
    assert len(set(ports)) == len(ports)


def test_homes_that_start_together_get_different_internal_ports() -> None:
    first, second = (scatter_internal_ports(OneboxSettings()) for _ in range(2))
    assert first != second
    assert (first.api_port, first.gateway_port) == (OneboxSettings().api_port, OneboxSettings().gateway_port)


def vars_of(settings: OneboxSettings) -> dict[str, int]:
    return {name: getattr(settings, name) for name in OneboxSettings.__dataclass_fields__}
