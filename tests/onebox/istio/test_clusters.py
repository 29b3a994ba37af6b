from __future__ import annotations

from typing import Any

import pytest

from controller.api.istio import Subset, TrafficPolicy
from controller.base.errors import UserError
from onebox.istio.clusters import DnsEndpoints, FileEndpoints, InlineEndpoints, build_cluster, build_load_assignment
from onebox.istio.registry import ClusterRef, Endpoint, Listener, Rule, ServicePort, parse_service
from onebox.istio.xds import UINT32_MAX

REF = ClusterRef("a.golden.svc.cluster.local", 80)
OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def cluster(policy: dict[str, Any] | None = None, *, port: ServicePort | None = None) -> dict[str, Any]:
    rule = Rule(TrafficPolicy.parse(policy)) if policy else Rule()
    return build_cluster(REF, port or ServicePort(80, "http"), rule, InlineEndpoints(()))


def options(built: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = built["typed_extension_protocol_options"][OPTIONS]
    return found


def test_limits_are_raised_where_nobody_sets_them() -> None:
    (limits,) = cluster()["circuit_breakers"]["thresholds"]
    assert set(limits.values()) == {UINT32_MAX}
    pool = {
        "tcp": {"maxConnections": 5},
        "http": {"http1MaxPendingRequests": 6, "http2MaxRequests": 7, "maxRetries": 8},
    }
    (limits,) = cluster({"connectionPool": pool})["circuit_breakers"]["thresholds"]
    assert list(limits.values()) == [5, 6, 7, 8]


def test_protocols_follow_the_client_or_the_port() -> None:
    assert "use_downstream_protocol_config" in options(cluster())
    assert "explicit_http_config" in options(cluster(port=ServicePort(81, "http2", http2=True)))
    assert "explicit_http_config" in options(cluster({"connectionPool": {"http": {"h2UpgradePolicy": "UPGRADE"}}}))
    hop = ServicePort(80, "http2", http2=True, listener=Listener.LOCAL)
    assert "use_downstream_protocol_config" in options(cluster(port=hop))


@pytest.mark.parametrize(
    ("port", "revision", "expected"),
    [
        ({"name": "http"}, False, "http1"),
        ({"name": "http-api"}, False, "http1"),
        ({"name": "http"}, True, "http1"),
        ({"name": "web"}, False, "follows"),
        ({}, False, "follows"),
        ({"name": "grpc-api"}, False, "http2"),
        ({"name": "http2"}, False, "http2"),
        ({"name": "http", "appProtocol": "kubernetes.io/h2c"}, False, "http2"),
        # Behind a queue-proxy both are understood.
        ({"name": "http2", "appProtocol": "kubernetes.io/h2c"}, True, "follows"),
    ],
)
def test_the_version_of_http_is_in_the_ports_name(port: dict[str, Any], revision: bool, expected: str) -> None:
    labels = {"serving.knative.dev/revision": "a-00001"} if revision else {}
    service = parse_service(
        {"metadata": {"namespace": "golden", "name": "a", "labels": labels}, "spec": {"ports": [{"port": 80, **port}]}}
    )
    built = options(cluster(port=service.ports[0]))
    explicit = built.get("explicit_http_config", {})
    found = "http2" if "http2_protocol_options" in explicit else "http1" if explicit else "follows"
    assert found == expected


def test_pool_settings_have_their_fields() -> None:
    pool = {
        "tcp": {"connectTimeout": "250ms"},
        "http": {"idleTimeout": "30s", "maxRequestsPerConnection": 1, "maxConcurrentStreams": 10},
    }
    built = cluster({"connectionPool": pool})
    assert built["connect_timeout"] == "0.25s"
    assert options(built)["common_http_protocol_options"] == {"idle_timeout": "30s", "max_requests_per_connection": 1}
    assert options(built)["use_downstream_protocol_config"]["http2_protocol_options"] == {"max_concurrent_streams": 10}


@pytest.mark.parametrize(
    ("balancer", "expected"),
    [
        ({}, {"lb_policy": "LEAST_REQUEST"}),
        ({"simple": "ROUND_ROBIN"}, {"lb_policy": "ROUND_ROBIN"}),
        ({"simple": "LEAST_CONN"}, {"lb_policy": "LEAST_REQUEST"}),
        ({"simple": "PASSTHROUGH"}, {"lb_policy": "LEAST_REQUEST"}),
        (
            {"consistentHash": {"useSourceIp": True, "ringHash": {"minimumRingSize": 64}}},
            {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 64}},
        ),
        (
            {"consistentHash": {"httpHeaderName": "x", "maglev": {"tableSize": 101}}},
            {"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 101}},
        ),
    ],
)
def test_load_balancers_have_their_names(balancer: dict[str, Any], expected: dict[str, Any]) -> None:
    built = cluster({"loadBalancer": balancer})
    assert {name: built.get(name) for name in expected} == expected


def test_outlier_detection_of_zero_is_off() -> None:
    wanted = {
        "consecutive5xxErrors": 0,
        "consecutiveGatewayErrors": 3,
        "interval": "1s",
        "baseEjectionTime": "30s",
        "maxEjectionPercent": 100,
        "minHealthPercent": 50,
    }
    built = cluster({"outlierDetection": wanted})
    assert built["outlier_detection"] == {
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 100,
        "consecutive_gateway_failure": 3,
        "interval": "1s",
        "base_ejection_time": "30s",
        "max_ejection_percent": 100,
    }
    assert built["common_lb_config"] == {"healthy_panic_threshold": {"value": 50}}


def test_the_narrower_policy_wins_section_by_section() -> None:
    wide = TrafficPolicy.parse(
        {
            "loadBalancer": {"simple": "RANDOM"},
            "connectionPool": {"tcp": {"maxConnections": 1}},
            "portLevelSettings": [{"port": {"number": 80}, "connectionPool": {"tcp": {"maxConnections": 2}}}],
        }
    )
    narrow = TrafficPolicy.parse({"connectionPool": {"tcp": {"maxConnections": 3}}})
    rule = Rule(wide, (Subset(name="one", trafficPolicy=narrow),))
    port, source = ServicePort(80, "http"), InlineEndpoints(())
    whole = build_cluster(REF, port, rule, source)
    subset = build_cluster(ClusterRef(REF.host, 80, "one"), port, rule, source)
    assert whole["lb_policy"] == subset["lb_policy"] == "RANDOM"
    assert whole["circuit_breakers"]["thresholds"][0]["max_connections"] == 2
    assert subset["circuit_breakers"]["thresholds"][0]["max_connections"] == 3


def test_endpoints_come_from_a_file_the_cluster_or_dns() -> None:
    port, rule = ServicePort(80, "http"), Rule()
    in_file = build_cluster(REF, port, rule, FileEndpoints("/x/a.json"))
    assert in_file["eds_cluster_config"]["eds_config"]["path_config_source"] == {"path": "/x/a.json"}
    inline = build_cluster(REF, port, rule, InlineEndpoints((Endpoint("127.0.0.1", 1),)))
    assert (inline["type"], inline["load_assignment"]["cluster_name"]) == ("STATIC", REF.name)
    assert build_cluster(REF, port, rule, DnsEndpoints("example.com", 80))["type"] == "LOGICAL_DNS"


def test_two_pods_behind_one_address_are_one_endpoint() -> None:
    pods = [Endpoint("127.0.0.1", 8012, ("ns", name)) for name in ("a", "b")]
    assert len(build_load_assignment("x", pods)["endpoints"][0]["lb_endpoints"]) == 1
    assert build_load_assignment("x", [])["endpoints"] == []


def test_a_bad_value_is_named() -> None:
    with pytest.raises(UserError, match="connectTimeout = 'soon'"):
        cluster({"connectionPool": {"tcp": {"connectTimeout": "soon"}}})
