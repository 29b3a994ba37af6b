"""Ports of pods on a machine where all pods share one address."""

from __future__ import annotations

import socket

import pytest

from controller.base.errors import TransientError
from onebox.node.ports import PortPool, actual_port, allocate, ports_annotation, user_port
from tests.onebox.node.builders import agent, container, knative_containers, pod
from tests.ports import free_port


def test_every_port_gets_one_that_no_other_pod_has() -> None:
    pool = PortPool()
    made = pod(container(ports=[{"containerPort": 8080}, {"containerPort": 9000, "name": "metrics"}]))
    first, second = allocate(made, pool), allocate(made, pool)
    assert first.keys() == second.keys() == {8080, 9000}
    assert not set(first.values()) & set(second.values())


def test_a_pod_without_ports_gets_the_default_one() -> None:
    assert allocate(pod(), PortPool()).keys() == {8080}


def test_a_runtime_is_reached_through_its_queue_proxy_only() -> None:
    ports = allocate(pod(*knative_containers()), PortPool())
    assert ports.keys() == {8080, 9090, 9091, 8012, 8112}
    assert ports[8080] == ports[8012]
    assert len(set(ports.values())) == 4


def test_grpc_of_a_runtime_has_the_queue_proxys_second_port() -> None:
    user, proxy = knative_containers(ports=[{"containerPort": 8081, "name": "h2c"}])
    proxy["ports"] = [{"containerPort": number} for number in (9090, 8013)]
    ports = allocate(pod(user, proxy), PortPool())
    assert ports[8081] == ports[8013] != ports[8012]


def test_a_foreign_server_has_a_port_of_its_own_behind_the_queue_proxy() -> None:
    user, proxy = knative_containers(command=["serve"])
    ports = allocate(pod(user, proxy), PortPool())
    assert ports[8080] != ports[8012]


def test_a_foreign_server_of_http_2_is_reached_where_its_queue_proxy_takes_http_1() -> None:
    user, proxy = knative_containers(command=["serve"], ports=[{"containerPort": 8080, "name": "h2c"}])
    proxy["ports"] = [{"containerPort": number} for number in (9090, 8013)]
    ports = allocate(pod(user, proxy), PortPool())
    assert ports[8013] == ports[8012] != ports[8080]


def test_behind_an_agent_a_runtime_has_no_port_and_a_foreign_server_its_own() -> None:
    for command, behind in (([], True), (["serve"], False)):
        user, proxy = knative_containers(command=command, ports=[])
        ports = allocate(pod(user, agent(port=5000), proxy), PortPool())
        assert ports[9081] == ports[8012]
        assert (ports[5000] == ports[8012]) is behind


def test_with_host_network_ports_are_the_containers_own() -> None:
    made = pod(container(ports=[{"containerPort": 7000}]), hostNetwork=True)
    assert allocate(made, PortPool()) == {7000: 7000}


def test_a_port_that_somebody_listens_on_is_passed_over() -> None:
    wanted = free_port()
    with socket.create_server(("127.0.0.1", wanted)):
        pool = PortPool(first=wanted, last=wanted)
        with pytest.raises(TransientError, match=f"all 1 ports from {wanted} are taken"):
            pool.take()
    assert pool.take() == wanted


def test_a_port_is_not_used_again_at_once() -> None:
    base = free_port()
    pool = PortPool(first=base, last=base + 50)
    first = pool.take()
    pool.release([first])
    assert first not in [pool.take(), pool.take()]


def test_ports_of_an_earlier_node_stay_taken() -> None:
    base = free_port()
    pool = PortPool(first=base, last=base + 50)
    pool.reserve([base])
    assert pool.take() != base


def test_another_onebox_is_not_given_the_port_of_a_server_that_does_not_listen_yet() -> None:
    base = free_port()
    ours = PortPool(first=base, last=base + 50)
    port = ours.take()
    theirs = PortPool(first=port, last=port)
    with pytest.raises(TransientError, match=f"all 1 ports from {port} are taken"):
        theirs.take()
    ours.release([port])
    assert theirs.take() == port


def test_probes_find_their_port_by_number_and_by_name() -> None:
    made = pod(container(ports=[{"containerPort": 8080, "name": "http"}])).containers[0]
    ports = {8080: 20001, 9090: 20002}
    assert (
        actual_port(made, 8080, ports) == actual_port(made, "http", ports) == actual_port(made, "8080", ports) == 20001
    )
    assert actual_port(made, 5000, ports) == 5000
    assert actual_port(made, 8022, ports) == 20002  # Knative's admin port is the statistics' here.
    with pytest.raises(ValueError, match="has no port named grpc"):
        actual_port(made, "grpc", ports)


def test_http_is_served_on_the_first_port_that_is_not_grpc() -> None:
    made = pod(container(ports=[{"containerPort": 9000, "name": "grpc"}, {"containerPort": 8080}])).containers[0]
    assert user_port(made) == 8080


def test_the_annotation_is_json_with_text_keys() -> None:
    assert ports_annotation({8080: 20001, 80: 20000}) == '{"80": 20000, "8080": 20001}'
