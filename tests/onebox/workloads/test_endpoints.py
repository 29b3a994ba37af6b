from __future__ import annotations

import pytest

from onebox.workloads.endpoints import build_subsets, parse_ports, selects
from tests.onebox.workloads.objects import pod, service

HTTP = {"name": "http", "port": 80, "targetPort": 8080}
MAPPED = {8080: 31001, 9090: 31002}


def test_each_pod_is_a_subset_with_the_ports_it_really_has() -> None:
    subsets = build_subsets(
        service(HTTP, {"name": "stats", "port": 9090}), [pod("b", ports={8080: 1, 9090: 2}), pod("a", ports=MAPPED)]
    )
    assert [subset["addresses"][0]["targetRef"]["name"] for subset in subsets] == ["a", "b"]
    assert subsets[0] == {
        "addresses": [
            {
                "ip": "127.0.0.1",
                "nodeName": "onebox",
                "targetRef": {"kind": "Pod", "namespace": "ns", "name": "a", "uid": "uid-a"},
            }
        ],
        "ports": [
            {"name": "http", "port": 31001, "protocol": "TCP"},
            {"name": "stats", "port": 31002, "protocol": "TCP"},
        ],
    }


def test_pods_that_are_not_ready_are_listed_apart() -> None:
    subsets = build_subsets(service(HTTP), [pod(ports=MAPPED, ready=False)])
    assert "addresses" not in subsets[0]
    assert len(subsets[0]["notReadyAddresses"]) == 1
    assert (
        "addresses" in build_subsets(service(HTTP, publishNotReadyAddresses=True), [pod(ports=MAPPED, ready=False)])[0]
    )


def test_pods_without_address_and_terminating_and_finished_ones_are_left_out() -> None:
    finished = pod("finished", ports=MAPPED)
    finished = finished.replace(status=finished.status.replace(phase="Failed"))
    pods = [pod("new"), pod("going", ports=MAPPED, deletionTimestamp="2026-01-01T00:00:00Z"), finished]
    assert build_subsets(service(HTTP), pods) == []


@pytest.mark.parametrize(
    ("port", "mapped"),
    [
        ({"port": 8080}, 31001),
        ({"port": 80, "targetPort": "http"}, 31001),
        ({"port": 80, "targetPort": 9090}, 31002),
        ({"port": 80, "targetPort": "unknown"}, None),
        ({"port": 80, "targetPort": 7}, None),
        ({"port": 80, "targetPort": "http", "protocol": "UDP"}, None),
    ],
)
def test_target_ports_by_number_and_by_name(port: dict[str, object], mapped: int | None) -> None:
    subsets = build_subsets(service(port), [pod(ports=MAPPED)])
    assert [subset["ports"][0]["port"] for subset in subsets] == ([] if mapped is None else [mapped])


def test_a_service_without_ports_lists_addresses_alone() -> None:
    assert "ports" not in build_subsets(service(clusterIP="None"), [pod(ports=MAPPED)])[0]


def test_application_protocols_are_kept() -> None:
    subsets = build_subsets(service({**HTTP, "appProtocol": "kubernetes.io/h2c"}), [pod(ports=MAPPED)])
    assert subsets[0]["ports"][0]["appProtocol"] == "kubernetes.io/h2c"


def test_an_empty_selector_selects_nothing() -> None:
    assert not selects({}, {"a": "b"})
    assert selects({"a": "b"}, {"a": "b", "c": "d"})
    assert not selects({"a": "b", "c": "x"}, {"a": "b", "c": "d"})


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', '{"1": null}', "null"])
def test_nonsense_in_the_ports_annotation_reads_as_none(text: str) -> None:
    assert parse_ports(pod(annotations={"onebox.ladle.dev/ports": text})) == {}
