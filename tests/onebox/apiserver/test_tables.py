"""What kubectl prints: ages, JSONPath cells, the one word for a pod."""

from __future__ import annotations

from typing import Any

import pytest

from controller.base.clock import parse_rfc3339
from onebox.apiserver.tables.builtin import BUILTIN
from onebox.apiserver.tables.durations import age, human_duration
from onebox.apiserver.tables.jsonpath import find
from onebox.apiserver.tables.pods import pod_cells

NOW = "2026-01-02T00:00:00Z"
NOW_S = parse_rfc3339(NOW)
DAY = 86400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (119, "119s"), (120, "2m"), (150, "2m30s"), (599, "9m59s"), (600, "10m"), (3 * 3600, "3h"),
        (3 * 3600 + 60, "3h1m"), (9 * 3600, "9h"), (2 * DAY, "2d"), (2 * DAY + 7200, "2d2h"), (10 * DAY, "10d"),
        (3 * 365 * DAY, "3y"), (-5, "<invalid>"),
    ],
)  # fmt: skip
def test_durations_have_at_most_two_units(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def test_ages_are_relative_to_now_and_unknown_where_nothing_is_known() -> None:
    assert age("2026-01-01T23:59:00Z", NOW_S) == "60s"
    assert age(None, NOW_S) == "<unknown>"
    assert age("soon", NOW_S) == "<invalid>"


VALUE: dict[str, Any] = {
    "metadata": {"name": "n", "annotations": {"a.b/c": "dotted"}},
    "status": {
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False", "active": True}],
        "list": [1, 2, 3],
        "map": {"x": 1, "y": 2},
    },
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".metadata.name", ["n"]),
        ("{.metadata.name}", ["n"]),
        ("$.metadata.name", ["n"]),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.type=='Ready')].status", ["True"]),
        ('.status.conditions[?(@.type!="Ready")].type', ["Other"]),
        (".status.conditions[?(@.active)].type", ["Other"]),
        (".status.conditions[?(@.active==true)].type", ["Other"]),
        (".status.conditions[*].type", ["Ready", "Other"]),
        (".status.conditions[-1].type", ["Other"]),
        (".status.list[1]", [2]),
        (".status.list[9]", []),
        (".status.map.*", [1, 2]),
        (".metadata.annotations.a\\.b/c", []),
        (".metadata.annotations['a.b/c']", ["dotted"]),
        (".nothing.here", []),
        (".broken[", []),
    ],
)
def test_json_paths_find_values(path: str, found: list[Any]) -> None:
    assert find(VALUE, path) == found


def _pod(**status: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}], "nodeName": "onebox"}
    return {"metadata": {"name": "p", "creationTimestamp": NOW}, "spec": spec, "status": status}


def _container(ready: bool = False, restarts: int = 0, **state: Any) -> dict[str, Any]:
    return {"ready": ready, "restartCount": restarts, "state": state}


DONE = _container(terminated={"exitCode": 0})
RUNNING = _container(ready=True, running={})


@pytest.mark.parametrize(
    ("status", "word"),
    [
        ({"phase": "Pending"}, "Pending"),
        ({"phase": "Pending", "initContainerStatuses": [_container(running={})]}, "Init:0/1"),
        (
            {"phase": "Pending", "initContainerStatuses": [_container(waiting={"reason": "CrashLoopBackOff"})]},
            "Init:CrashLoopBackOff",
        ),
        ({"phase": "Pending", "initContainerStatuses": [_container(terminated={"exitCode": 2})]}, "Init:ExitCode:2"),
        (
            {"phase": "Pending", "initContainerStatuses": [_container(terminated={"reason": "Error", "exitCode": 1})]},
            "Init:Error",
        ),
        ({"phase": "Running", "initContainerStatuses": [DONE], "containerStatuses": [RUNNING, RUNNING]}, "Running"),
        ({"phase": "Pending", "containerStatuses": [_container(waiting={"reason": "ErrImagePull"})]}, "ErrImagePull"),
        (
            {"phase": "Running", "containerStatuses": [_container(waiting={"reason": "CrashLoopBackOff"}), RUNNING]},
            "CrashLoopBackOff",
        ),
        (
            {
                "phase": "Succeeded",
                "containerStatuses": [_container(terminated={"reason": "Completed", "exitCode": 0})],
            },
            "Completed",
        ),
        ({"phase": "Failed", "reason": "Evicted"}, "Evicted"),
        ({"phase": "Running", "containerStatuses": [_container(terminated={"signal": 9})]}, "Signal:9"),
    ],
)
def test_a_pod_is_told_in_one_word(status: dict[str, Any], word: str) -> None:
    assert pod_cells(_pod(**status), NOW_S)[1] == word


def test_a_pod_that_is_being_deleted_is_terminating() -> None:
    pod = _pod(phase="Running")
    pod["metadata"]["deletionTimestamp"] = NOW
    assert pod_cells(pod, NOW_S)[1] == "Terminating"


def test_readiness_and_restarts_are_counted() -> None:
    last = {"terminated": {"finishedAt": "2026-01-01T23:59:30Z"}}
    statuses = [{**RUNNING, "restartCount": 2, "lastState": last}, _container(running={})]
    ready, _, restarts, *_ = pod_cells(_pod(phase="Running", containerStatuses=statuses), NOW_S)
    assert (ready, restarts) == ("1/2", "2 (30s ago)")


def test_restarts_are_those_of_init_containers_until_they_are_done() -> None:
    ended = {"terminated": {"finishedAt": "2026-01-01T23:59:30Z", "exitCode": 1}}
    init = {**_container(restarts=3, waiting={"reason": "CrashLoopBackOff"}), "lastState": ended}
    statuses = [_container(waiting={"reason": "PodInitializing"})]
    pod = _pod(phase="Pending", initContainerStatuses=[init], containerStatuses=statuses)
    assert pod_cells(pod, NOW_S)[1:3] == ["Init:CrashLoopBackOff", "3 (30s ago)"]
    done = _container(restarts=3, terminated={"exitCode": 0})
    pod = _pod(phase="Running", initContainerStatuses=[done], containerStatuses=[_container(ready=True, running={})])
    assert pod_cells(pod, NOW_S)[2] == "0"


META = {"metadata": {"name": "n", "creationTimestamp": NOW, "labels": {}}}


@pytest.mark.parametrize(
    ("key", "value", "cells"),
    [
        ("services", {"spec": {"type": "ClusterIP", "clusterIP": "10.96.0.1", "selector": {"a": "b"},
                               "ports": [{"port": 80, "protocol": "TCP"}]}},
         ["ClusterIP", "10.96.0.1", "<none>", "80/TCP", "0s", "a=b"]),
        ("services", {"spec": {"type": "ExternalName", "externalName": "x.y"}},
         ["ExternalName", "<none>", "x.y", "<none>", "0s", "<none>"]),
        ("endpoints", {"subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": 1}, {"port": 2}]}]},
         ["127.0.0.1:1,127.0.0.1:2", "0s"]),
        ("endpoints", {"subsets": [{"addresses": [{"ip": "1"}], "ports": [{"port": port} for port in range(5)]}]},
         ["1:0,1:1,1:2 + 2 more...", "0s"]),
        ("endpoints", {}, ["<none>", "0s"]),
        ("secrets", {"type": "Opaque", "data": {"a": "b"}}, ["Opaque", 1, "0s"]),
        ("namespaces", {"status": {"phase": "Active"}}, ["Active", "0s"]),
        ("leases.coordination.k8s.io", {"spec": {"holderIdentity": "me"}}, ["me", "0s"]),
        ("jobs.batch", {"spec": {"completions": 2}, "status": {"succeeded": 1, "startTime": NOW}},
         ["Running", "1/2", "0s", "0s", "", "", "<none>"]),
    ],
)  # fmt: skip
def test_cells_of_built_in_kinds(key: str, value: dict[str, Any], cells: list[Any]) -> None:
    columns, render = BUILTIN[key]
    assert render({**META, **value}, NOW_S) == cells
    assert len(columns) == len(cells)
