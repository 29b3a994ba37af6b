from __future__ import annotations

import os
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebox.istio.admin import parse_statistics
from onebox.istio.endpoint_files import EndpointFiles, file_name, files_max
from onebox.istio.explain import parse_reason
from onebox.istio.files import ConfigFiles, parse_clusters, parse_routes, render_routes
from onebox.istio.registry import Listener
from onebox.istio.xds import render_duration, render_message, render_response
from tests.onebox.istio.objects import endpoints, route_to, service, virtual_service
from tests.onebox.istio.test_translation import feed, installed


def test_only_what_changes_is_replaced(tmp_path: Path) -> None:
    files = ConfigFiles(tmp_path)
    assert files.write(files.clusters, b"1")
    inode = files.clusters.stat().st_ino
    assert not files.write(files.clusters, b"1")
    assert not ConfigFiles(tmp_path).write(files.clusters, b"1"), "also by the next process"
    assert files.clusters.stat().st_ino == inode
    assert files.write(files.clusters, b"1", always=True)
    assert files.write(files.clusters, b"2")
    assert files.clusters.read_bytes() == b"2"


def test_endpoint_files_of_clusters_that_are_gone_go(tmp_path: Path) -> None:
    files = ConfigFiles(tmp_path)
    files.remove_endpoints_but(())
    for cluster in ("outbound|80||a", "outbound|80||b"):
        files.write_endpoints(cluster, b"{}")
    files.remove_endpoints_but(["outbound|80||b"])
    assert os.listdir(files.endpoints) == ["outbound_80__b.json"]
    assert files.write_endpoints("outbound|80||a", b"{}"), "a file that was removed is written again"


def test_the_longest_name_of_a_cluster_is_a_file_name(tmp_path: Path) -> None:
    label = "x" * 63
    files = ConfigFiles(tmp_path)
    assert files.write_endpoints(f"outbound|65535|{label}|{label}.{label}.svc.cluster.local", b"{}")


def test_what_was_written_is_read_back_as_it_was_rendered() -> None:
    translation = installed(room=1)
    for name in ("a", "b"):
        feed(translation, "service", service(name))
        feed(translation, "endpoints", endpoints(name, [1]))
        spec = {"hosts": [f"{name}.example.com", f"{name}.example.org"], "http": [route_to(name, timeout="1.5s")]}
        feed(translation, "virtual_service", virtual_service(name, spec))
    desired = translation.render()
    assert parse_clusters(render_response(desired.clusters.values())[1]) == desired.clusters
    hosts = desired.virtual_hosts[Listener.PUBLIC]
    assert parse_routes(render_routes(Listener.PUBLIC, hosts.values())[1]) == hosts


def test_the_version_follows_from_the_content() -> None:
    assert render_response([b"{}"]) == render_response([b"{}"])
    assert render_response([b"{}"])[0] != render_response([b"{}", b"{}"])[0]
    version, content = render_response([])
    assert orjson.loads(content) == {"version_info": version, "resources": []}


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 9)))
def test_equal_messages_have_equal_bytes(message: dict[str, int]) -> None:
    backwards = dict(reversed(list(message.items())))
    assert render_message(message) == render_message(backwards)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.5, "0.5s"), (90, "90s"), (0.000000001, "0.000000001s"), (1e6, "1000000s")]
)
def test_durations_are_written_without_exponents(seconds: float, text: str) -> None:
    assert render_duration(seconds) == text


def test_endpoint_files_go_to_whoever_comes_while_there_is_room(tmp_path: Path) -> None:
    files = EndpointFiles(tmp_path, 2)
    assert files.path("a") == files.path("a") == str(tmp_path / file_name("a"))
    assert files.path("b")
    assert files.path("c") is None
    files.release("a")
    assert files.path("c")
    assert files.path("a") is None
    files.close()
    assert (files.path("c"), len(files)) == (None, 0)


def test_a_home_takes_a_part_of_what_the_machine_allows(tmp_path: Path) -> None:
    limit = tmp_path / "limit"
    limit.write_text("8192\n")
    assert files_max(limit) == 2048
    assert files_max(tmp_path / "missing") == 32


def test_statistics_are_read_by_table() -> None:
    state = parse_statistics(
        "cluster_manager.cds.update_failure: 1\n"
        "cluster_manager.cds.update_rejected: 2\n"
        'cluster_manager.cds.version_text: "abc"\n'
        "cluster_manager.warming_clusters: 3\n"
        "http.public.rds.public.update_rejected: 0\n"
    )
    assert (state.tables["clusters"].version, state.tables["clusters"].refused, state.warming) == ("abc", 3, 3)
    assert (state.tables["public"].version, state.tables["local"].refused) == ("", 0)


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("[critical] error initializing configuration '/x/b.json': missing ): (\n", "missing ): ("),
        (
            (
                "error initializing configuration 'x': goo.gle/debug\nstuff {}\n: Proto constraint validation failed "
                "(A: embedded message failed validation | caused by B.Status: value must be inside range [200, 600))\n"
            ),
            "B.Status: value must be inside range [200, 600)",
        ),
        ("", "Envoy refused it without a reason"),
    ],
)
def test_the_reason_of_a_refusal_is_found_in_the_log(log: str, reason: str) -> None:
    assert parse_reason(log) == reason
