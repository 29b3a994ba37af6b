"""Our own encoding of Envoy's messages, beside that of protobuf's classes. Whole tables: test_messages."""
# mypy: disable-error-code="import-untyped"

from __future__ import annotations

from typing import Any

import orjson
import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.route.v3 import route_components_pb2
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from onebox.istio.registry import Listener
from onebox.istio.wire import Unencodable, encode_message
from onebox.istio.wire_tables import route_table

CLUSTER, ROUTE = "envoy.config.cluster.v3.Cluster", "envoy.config.route.v3.Route"
CLASSES = {CLUSTER: cluster_pb2.Cluster, ROUTE: route_components_pb2.Route}


def check(type_: str, message: dict[str, Any]) -> None:
    made = CLASSES[type_].FromString(encode_message(type_, message))
    assert made == json_format.ParseDict(message, CLASSES[type_]())


@pytest.mark.parametrize(
    ("type_", "message"),
    [
        (CLUSTER, {"name": "ä" * 100, "alt_stat_name": ""}),
        (CLUSTER, {"type": "STRICT_DNS", "lb_policy": "RING_HASH", "dns_lookup_family": "V4_ONLY"}),
        (CLUSTER, {"per_connection_buffer_limit_bytes": 2**32 - 1, "connection_pool_per_downstream_connection": True}),
        (CLUSTER, {"outlier_detection": {"consecutive_5xx": 0, "base_ejection_time": "0.000000001s"}}),
        (CLUSTER, {"ring_hash_lb_config": {"minimum_ring_size": 2**63}, "connect_timeout": None}),
        (ROUTE, {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_bytes": "AAEC/w=="}}}),
        (ROUTE, {"match": {"prefix": "/", "case_sensitive": False}, "redirect": {"response_code": "SEE_OTHER"}}),
        (ROUTE, {"route": {"cluster": "x", "retry_policy": {"retriable_status_codes": [500, 503]}}}),
        (ROUTE, {"match": {"runtime_fraction": {"default_value": {"numerator": 1, "denominator": "MILLION"}}}}),
    ],
)
def test_a_message_is_what_protobuf_makes_of_it(type_: str, message: dict[str, Any]) -> None:
    check(type_, message)


@given(st.integers(-(10**9), 10**9), st.integers(0, 999_999_999))
def test_durations(seconds: int, nanos: int) -> None:
    check(CLUSTER, {"connect_timeout": f"{seconds}.{nanos:09d}s"})


@given(st.text(), st.integers(0, 2**32 - 1), st.booleans())
def test_scalars(name: str, size: int, flag: bool) -> None:
    limits = {"per_connection_buffer_limit_bytes": size, "ignore_health_on_host_removal": flag}
    check(CLUSTER, {"name": name, **limits})


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"nmae": "x"}, "envoy.config.cluster.v3.Cluster has no field nmae"),
        ({"connect_timeout": "soon"}, "connect_timeout: 'soon' is no duration such as 1.5s"),
        ({"outlier_detection": {"consecutive_5xx": -1}}, r"outlier_detection: consecutive_5xx: -1 must be in \[0, "),
        ({"lb_policy": "FAIR"}, "lb_policy: 'FAIR' is none of CLUSTER_PROVIDED, LEAST_REQUEST"),
    ],
)
def test_what_a_field_cannot_hold_is_named(message: dict[str, Any], words: str) -> None:
    with pytest.raises(Unencodable, match=words):
        encode_message(CLUSTER, message)


def test_a_table_tells_which_resource_cannot_be_encoded() -> None:
    table = route_table(Listener.PUBLIC)
    fine = orjson.dumps({"name": "fine", "domains": ["a"]})
    wrong = orjson.dumps({"name": "wrong", "domains": ["b"], "routes": [{"direct_response": {"status": -1}}]})
    assert table.unencodable({"fine": fine, "wrong": wrong, "gone": None}) == {"wrong"}
    assert b"fine" in table.render("v", [fine])
