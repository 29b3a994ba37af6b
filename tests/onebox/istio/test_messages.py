# mypy: disable-error-code="import-untyped"
"""Everything that is built parses into Envoy's own protobuf classes: no unknown field, no wrong type."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2  # noqa: F401  # Any finds types that are imported.
from envoy.config.listener.v3 import listener_pb2  # noqa: F401
from envoy.config.route.v3 import route_pb2  # noqa: F401
from envoy.extensions.filters.http.cors.v3 import cors_pb2  # noqa: F401
from envoy.extensions.filters.http.fault.v3 import fault_pb2  # noqa: F401
from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2  # noqa: F401
from envoy.extensions.resource_monitors.downstream_connections.v3 import downstream_connections_pb2  # noqa: F401
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2  # noqa: F401
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2  # noqa: F401
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import json_format

from onebox.home import Home, OneboxSettings
from onebox.istio.bootstrap import bootstrap_file, write_bootstrap
from onebox.istio.files import ConfigFiles, render_routes
from onebox.istio.listeners import build_listener
from onebox.istio.registry import Listener
from onebox.istio.translation import Desired
from onebox.istio.wire import encode_message
from onebox.istio.xds import render_message, render_response
from tests.onebox.istio.objects import (
    destination_rule,
    endpoints,
    knative_virtual_service,
    kserve_virtual_service,
    revision_service,
    route_to,
    service,
    virtual_service,
)
from tests.onebox.istio.test_recordings import RECORDINGS, cases
from tests.onebox.istio.test_translation import feed, installed

KSERVE = RECORDINGS.parents[1] / "kserve/ready"


def responses(desired: Desired) -> Iterator[bytes]:
    yield render_response(desired.clusters.values())[1]
    for listener in Listener:
        yield render_routes(listener, desired.virtual_hosts[listener].values())[1]
    yield from (render_response([assignment])[1] for assignment in desired.endpoints.values())


def check(content: bytes) -> None:
    response = json_format.Parse(content, discovery_pb2.DiscoveryResponse())
    assert len(response.version_info) == 16
    assert all(resource.type_url for resource in response.resources)


def check_encoded(content: bytes) -> None:
    """Our own protobuf says what Envoy's classes make of the JSON."""
    expected = json_format.Parse(content, discovery_pb2.DiscoveryResponse())
    encoded = encode_message("envoy.service.discovery.v3.DiscoveryResponse", orjson.loads(content))
    # As dictionaries, for what is in an Any is bytes: those may be put together differently and mean the same.
    parsed = discovery_pb2.DiscoveryResponse.FromString(encoded)
    assert json_format.MessageToDict(parsed) == json_format.MessageToDict(expected)


def check_all(*virtual_services: dict[str, Any], rules: tuple[dict[str, Any], ...] = (), room: int = 3) -> Desired:
    translation = installed(room)
    for name in ("a", "b", "c", "v"):
        feed(translation, "service", service(name))
        feed(translation, "endpoints", endpoints(name, [1, 2]))
    feed(translation, "service", revision_service("r1"), revision_service("r2"))
    feed(translation, "rule", *rules)
    feed(translation, "virtual_service", *virtual_services)
    desired = translation.render()
    for content in responses(desired):
        check(content)
        check_encoded(content)
    return desired


@pytest.mark.skipif(not RECORDINGS.exists(), reason="the recordings of Istio are not here")
def test_all_recorded_cases() -> None:
    desired = check_all(*(virtual_service(name, case["spec"]) for name, case in cases().items()))
    assert len(desired.virtual_hosts[Listener.PUBLIC]) == len(cases())
    assert desired.findings == ()


@pytest.mark.skipif(not KSERVE.exists(), reason="the recordings of KServe are not here")
def test_all_virtual_services_that_kserve_makes() -> None:
    found = []
    for path in sorted(KSERVE.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if document and document.get("kind") == "VirtualService":
                document["metadata"]["uid"] = "uid"
                found.append(document)
    assert len(found) > 20
    for document in found:
        desired = check_all(document)
        assert desired.findings == ()
        assert len(desired.virtual_hosts[Listener.LOCAL]) == 1


def test_what_onebox_makes_and_every_other_feature() -> None:
    everything = route_to(
        "a",
        name="everything",
        match=[
            {"uri": {"regex": "/a.*"}, "ignoreUriCase": True, "withoutHeaders": {"x": {"prefix": "y"}}},
            {"scheme": {"exact": "http"}, "queryParams": {"q": {"prefix": "z"}, "r": {}}},
        ],
        headers={"request": {"add": {"a": "b"}}, "response": {"set": {"c": "d"}, "remove": ["e"]}},
        retries={"attempts": 2, "retryOn": "5xx,409", "perTryTimeout": "2s", "backoff": "5ms"},
        fault={
            "delay": {"fixedDelay": "1s", "percent": 10},
            "abort": {"grpcStatus": "UNAVAILABLE", "percentage": {"value": 0.1}},
        },
        corsPolicy={"allowOrigin": ["*", "https://x"], "unmatchedPreflights": "IGNORE", "maxAge": "1h"},
        mirrors=[{"destination": {"host": "b"}, "percentage": {"value": 12.5}}],
    )
    policy = {
        "loadBalancer": {"consistentHash": {"httpCookie": {"name": "u", "path": "/", "ttl": "10s"}}},
        "outlierDetection": {
            "consecutive5xxErrors": 7,
            "splitExternalLocalOriginErrors": True,
            "consecutiveLocalOriginFailures": 3,
            "interval": "5m",
        },
        "connectionPool": {"http": {"idleTimeout": "1m", "maxConcurrentStreams": 3}},
    }
    desired = check_all(
        virtual_service("everything", {"hosts": ["e.example.com"], "http": [everything, {"redirect": {"port": 1}}]}),
        kserve_virtual_service("m"),
        knative_virtual_service("m-predictor", {"r1": 90, "r2": 10}),
        rules=(destination_rule("a", {"host": "a", "trafficPolicy": policy}),),
    )
    assert desired.findings == ()


def test_the_listeners_and_the_bootstrap(tmp_path: Path) -> None:
    check(render_response(render_message(build_listener(found, port=1, routes_path="/r")) for found in Listener)[1])
    home = Home(tmp_path)
    write_bootstrap(home, OneboxSettings())
    json_format.Parse(bootstrap_file(home).read_bytes(), bootstrap_pb2.Bootstrap())
    files = ConfigFiles(home.envoy)
    for path in (files.listeners, files.clusters, *(files.routes(listener) for listener in Listener)):
        check(path.read_bytes())


def test_equal_content_has_equal_versions() -> None:
    first, second = (check_all(knative_virtual_service("m", {"r1": 100})) for _ in range(2))
    assert list(responses(first)) == list(responses(second))
    (table,) = orjson.loads(next(iter(responses(first))))["resources"]
    assert table["name"] == "outbound|80||r1.golden.svc.cluster.local"
