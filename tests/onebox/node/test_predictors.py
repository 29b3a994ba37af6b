"""How a transformer's process is told where its predictor is."""

from __future__ import annotations

from typing import Any

import pytest

from onebox.node.images import embedding_container
from onebox.node.ports import wanted_ports
from onebox.node.predictors import (
    asked_over_grpc,
    collocated_port,
    flag_value,
    map_port_arguments,
    predictor_host,
    proxy_variables,
)
from onebox.node.spec import Pod
from tests.onebox.node.builders import container, knative_containers, pod

GATEWAY = "127.0.0.1:30001"
PORTS = {8080: 20001, 8085: 20002}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--predictor_host", "iris-predictor.default"],
        ["--predictor-host=iris-predictor.default", "--http_port", "8080"],
    ],
)
def test_the_flag_has_two_spellings_and_two_forms(arguments: list[str]) -> None:
    assert predictor_host(arguments) == "iris-predictor.default"


def test_a_flag_without_a_value_has_none() -> None:
    assert flag_value(["--predictor_host"], "predictor_host") == ""


def test_a_program_that_is_told_of_a_predictor_gets_the_gateway_as_proxy() -> None:
    found = proxy_variables(["--predictor_host", "iris-predictor.default"], GATEWAY)
    assert (found["HTTP_PROXY"], found["http_proxy"]) == (f"http://{GATEWAY}",) * 2
    assert "127.0.0.1" in found["NO_PROXY"].split(",")


@pytest.mark.parametrize("arguments", [[], ["--predictor_host=localhost:8085"], ["--predictor_host", "127.0.0.1:1"]])
def test_others_do_not(arguments: list[str]) -> None:
    assert proxy_variables(arguments, GATEWAY) == {}


@pytest.mark.parametrize(
    ("given", "mapped"),
    [
        (["--http_port", "8080"], ["--http_port", "20001"]),
        (["--http-port=8080", "--x=8080"], ["--http-port=20001", "--x=8080"]),
        (["--predictor_host=localhost:8085"], ["--predictor_host=localhost:20002"]),
        (["--predictor_host", "127.0.0.1:8085"], ["--predictor_host", "127.0.0.1:20002"]),
        (["--predictor_host=iris-predictor.default"], ["--predictor_host=iris-predictor.default"]),
        (["--predictor_host=elsewhere:8085"], ["--predictor_host=elsewhere:8085"]),
        (["--http_port=9999"], ["--http_port=9999"]),
        (["--http_port"], ["--http_port"]),
    ],
)
def test_ports_in_arguments_are_this_machines(given: list[str], mapped: list[str]) -> None:
    assert map_port_arguments(given, PORTS) == tuple(mapped)


class TestCollocated:
    def made(self, *told: str, predictor: str = "--http_port=8085") -> Pod:
        transformer: dict[str, Any] = {
            "args": ["--predictor_host=localhost:8085", *told],
            "ports": [{"containerPort": 8080}],
        }
        _, proxy = knative_containers()
        return pod(
            container("kserve-container", image="kserve/sklearnserver", command=[], args=[predictor]),
            container("transformer-container", image="ladle-image-transformer", command=[], **transformer),
            proxy,
        )

    def test_the_predictors_port_is_known_from_the_transformer(self) -> None:
        assert collocated_port(self.made()) == 8085
        assert 8085 in wanted_ports(self.made())

    def test_the_queue_proxy_is_in_front_of_the_transformer(self) -> None:
        found = embedding_container(self.made())
        assert found is not None
        assert found.name == "transformer-container"

    @pytest.mark.parametrize(
        ("told", "predictor", "grpc"),
        [
            ([], "--http_port=8085", False),
            (["--predictor_protocol=v2"], "--http_port=8085", False),
            (["--predictor_protocol", "grpc-v2"], "--model_name=m", True),
            ([], "--grpc_port=8085", True),
            ([], "--grpc_port=9000", False),
        ],
    )
    def test_the_port_is_for_grpc_where_either_of_them_says_so(
        self, told: list[str], predictor: str, grpc: bool
    ) -> None:
        made = self.made(*told, predictor=predictor)
        assert asked_over_grpc(made, made.container("kserve-container")) is grpc
