"""A revision's children beyond what was recorded: replicas, endpoints, settings, odd containers."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from controller.api.core import Deployment, Endpoints
from controller.api.knative import Revision
from controller.base.json import JsonObject, JsonView
from controller.reconcile.plan import Plan
from onebox.knative.autoscaler.report import Activity, ScaleReport
from onebox.knative.names import FIELD_MANAGER
from onebox.knative.revision.deployment import build_deployment
from onebox.knative.revision.plan import RevisionSnapshot, plan_revision
from onebox.knative.revision.services import decide_proxied, decide_subsets
from onebox.knative.revision.status import Workload
from onebox.knative.settings import ServingSettings, parse_settings
from tests.onebox.knative.building import NOW_S, meta, revision

ACTIVATOR_PORT = 8012
PROXY = [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"name": "http", "port": ACTIVATOR_PORT, "protocol": "TCP"}]}]
SERVING = ScaleReport(want=1, activity=Activity.ACTIVE, initialized=True)


def with_containers(*containers: dict[str, Any], annotations: dict[str, str] | None = None, **spec: Any) -> Revision:
    found = revision("svc-1")
    return found.replace(
        spec=found.spec.parse({"containers": list(containers), **spec}),
        metadata=found.metadata.replace(annotations=annotations or {}),
    )


def pods(*ports: int, ready: bool = True) -> Endpoints:
    """The private Endpoints of pods, each with the ports 8012 and 9090 somewhere else."""
    key = "addresses" if ready else "notReadyAddresses"
    subsets = [
        {
            key: [{"ip": "127.0.0.1", "targetRef": {"kind": "Pod", "name": f"p{port}"}}],
            "ports": [{"name": "http", "port": port}, {"name": "http-autometric", "port": port + 1}],
        }
        for port in ports
    ]
    return Endpoints.parse({"metadata": {"name": "svc-1-private"}, "subsets": subsets})


def plan(*, live: JsonView | None = None, **fields: Any) -> Plan:
    workload = Workload(
        deployment=Deployment.parse(live) if live is not None else None,
        report=fields.pop("report", None),
    )
    given = {"pods": None, "public": None, "settings": ServingSettings(), **fields}
    return plan_revision(
        RevisionSnapshot(
            revision=revision("svc-1"),
            workload=workload,
            deployment=live,
            activator_port=ACTIVATOR_PORT,
            now_s=NOW_S,
            **given,
        )
    )


def child(found: Plan, kind: str) -> Any:
    return next((one.manifest for one in found.children if one.resource.kind == kind), None)


def live_deployment(replicas: int, *managers: str) -> JsonView:
    """A stored Deployment whose replicas belong to these managers."""
    managed: list[dict[str, Any]] = [
        {
            "manager": name,
            "operation": "Apply" if name == FIELD_MANAGER else "Update",
            "fieldsV1": {"f:spec": {"f:replicas": {}}},
        }
        for name in managers
    ]
    metadata = {**meta("svc-1-deployment", owner="Revision/svc-1"), "managedFields": managed}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"replicas": replicas}}


def test_a_new_deployment_starts_with_the_initial_scale() -> None:
    settings = parse_settings({"config-autoscaler": {"initial-scale": "2"}})
    assert child(plan(settings=settings), "Deployment")["spec"]["replicas"] == 2


def test_replicas_stay_as_they_are_while_they_are_ours() -> None:
    found = plan(live=live_deployment(3, FIELD_MANAGER))
    assert child(found, "Deployment")["spec"]["replicas"] == 3


def test_replicas_are_left_alone_once_the_autoscaler_has_them() -> None:
    assert "replicas" not in child(plan(live=live_deployment(7, "autoscaler")), "Deployment")["spec"]


def test_no_endpoints_before_anybody_could_need_them() -> None:
    assert child(plan(), "Endpoints") is None


@pytest.mark.parametrize("fields", [{"report": SERVING}, {"public": {"metadata": {"name": "svc-1"}}}])
def test_endpoints_from_the_first_readiness_on(fields: dict[str, Any]) -> None:
    assert child(plan(**fields), "Endpoints")["subsets"] == PROXY


def test_endpoints_as_soon_as_a_pod_is_ready() -> None:
    assert child(plan(pods=pods(20000, ready=False)), "Endpoints") is None
    assert child(plan(pods=pods(20000)), "Endpoints")["subsets"][0]["ports"][0]["port"] == 20000


def subsets(found: Endpoints | None, report: ScaleReport | None, public: JsonObject | None = None) -> list[Any]:
    proxied = decide_proxied(report, public, activator_port=ACTIVATOR_PORT)
    return decide_subsets(revision("svc-1"), found, proxied=proxied, activator_port=ACTIVATOR_PORT)


def test_ready_pods_take_requests_themselves() -> None:
    found = subsets(pods(20010, 20000), SERVING)
    assert [subset["ports"] for subset in found] == [
        [{"name": "http", "port": 20000}],
        [{"name": "http", "port": 20010}],
    ]
    assert found[0]["addresses"][0]["targetRef"]["name"] == "p20000"


@pytest.mark.parametrize(
    "report",
    [
        ScaleReport(want=0, activity=Activity.INACTIVE, initialized=True),
        ScaleReport(want=2, excess_burst_capacity=-1, activity=Activity.ACTIVE, initialized=True),
    ],
)
def test_the_activator_takes_them_when_the_autoscaler_says_so(report: ScaleReport) -> None:
    assert subsets(pods(20000), report) == PROXY


@pytest.mark.parametrize("found", [None, pods(), pods(20000, ready=False)])
def test_the_activator_takes_them_without_a_ready_pod(found: Endpoints | None) -> None:
    assert subsets(found, SERVING) == PROXY


def test_pods_are_used_until_the_autoscaler_has_spoken() -> None:
    assert subsets(pods(20000), None) != PROXY


def test_a_start_of_the_autoscaler_does_not_move_requests() -> None:
    to_activator = {"metadata": {"name": "svc-1"}, "subsets": PROXY}
    to_pods = {"metadata": {"name": "svc-1"}, "subsets": subsets(pods(20000), SERVING)}
    assert subsets(pods(20000), None, to_activator) == PROXY
    assert subsets(pods(20000), None, to_pods) == to_pods["subsets"]
    assert subsets(pods(20000), SERVING, to_activator) == to_pods["subsets"]


def containers_of(found: Revision, settings: ServingSettings | None = None) -> list[Any]:
    manifest = build_deployment(found, settings or ServingSettings(), replicas=1)
    listed: list[Any] = manifest["spec"]["template"]["spec"]["containers"]
    return listed


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in container["env"]}


def test_only_the_serving_container_gets_the_port() -> None:
    sidecar = {"name": "sidecar", "image": "s"}
    serving = {"name": "serving", "image": "i", "ports": [{"containerPort": 9000}]}
    first, second, queue = containers_of(with_containers(sidecar, serving))
    assert "PORT" not in environment(first)
    assert environment(second)["PORT"] == "9000"
    assert environment(queue)["USER_PORT"] == "9000"
    assert second["ports"] == [{"name": "user-port", "containerPort": 9000, "protocol": "TCP"}]


def test_a_command_probe_stays_with_its_container() -> None:
    probe = {"exec": {"command": ["true"]}, "successThreshold": 1}
    user, queue = containers_of(with_containers({"name": "c", "image": "i", "readinessProbe": probe}))
    assert user["readinessProbe"] == probe
    asked = orjson.loads(environment(queue)["SERVING_READINESS_PROBE"])
    assert asked == {"tcpSocket": {"port": 8080, "host": "127.0.0.1"}, "successThreshold": 1}


def test_a_liveness_probe_goes_to_the_users_port() -> None:
    probe = {"httpGet": {"path": "/alive", "port": 0}}
    user, _ = containers_of(with_containers({"name": "c", "image": "i", "livenessProbe": probe}))
    assert user["livenessProbe"]["httpGet"] == {"path": "/alive", "port": 8080}


def test_the_queue_proxys_resources_are_what_the_revision_asks_for() -> None:
    annotations = {"queue.sidecar.serving.knative.dev/memory-resource-limit": "64Mi"}
    found = with_containers({"name": "c", "image": "i"}, annotations=annotations)
    assert containers_of(found)[1]["resources"] == {"requests": {"cpu": "25m"}, "limits": {"memory": "64Mi"}}


def test_scaling_annotations_do_not_change_the_deployment() -> None:
    plain, scaled = (
        build_deployment(with_containers({"name": "c", "image": "i"}, annotations=found), ServingSettings(), replicas=1)
        for found in ({}, {"autoscaling.knative.dev/target": "3"})
    )
    assert plain == scaled


def test_settings_change_the_hash() -> None:
    other = parse_settings({"config-deployment": {"queue-sidecar-image": "other"}})
    labels = [
        build_deployment(revision("svc-1"), settings, replicas=1)["metadata"]["labels"]
        for settings in (ServingSettings(), other)
    ]
    assert labels[0]["serving.knative.dev/deployment-hash"] != labels[1]["serving.knative.dev/deployment-hash"]


def test_a_progress_deadline_of_its_own() -> None:
    annotations = {"serving.knative.dev/progress-deadline": "30s"}
    found = with_containers({"name": "c", "image": "i"}, annotations=annotations)
    assert build_deployment(found, ServingSettings(), replicas=1)["spec"]["progressDeadlineSeconds"] == 30


def test_an_affinity_of_the_users_own_stays() -> None:
    found = with_containers({"name": "c", "image": "i"}, affinity={"nodeAffinity": {}})
    pod = build_deployment(found, ServingSettings(), replicas=1)["spec"]["template"]["spec"]
    assert pod["affinity"] == {"nodeAffinity": {}}
