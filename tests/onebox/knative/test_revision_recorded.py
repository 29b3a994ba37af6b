"""A revision's children and status beside what Knative made of the same Services."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api.core import Deployment, Pod
from controller.api.knative import Revision
from controller.base.names import child_name
from onebox.knative.autoscaler.report import Activity, ScaleReport
from onebox.knative.revision.deployment import build_deployment
from onebox.knative.revision.services import build_private_service, build_public_service
from onebox.knative.revision.status import Workload, build_revision_status
from tests.onebox.knative.comparing import conditions, unexplained
from tests.onebox.knative.recordings import LONG, SERVICES, find, load, needs_recordings, recorded_settings

pytestmark = needs_recordings

NOW_S = 1_795_000_000.0
QUEUED = "Requests to the target are being buffered as resources are provisioned."

FILLED_IN_BY_THE_API_SERVER = "the API server fills it in"
DEPLOYMENT_DIFFERENCES = {
    r"status.*": "the Deployment controller's",
    r"metadata\.uid": FILLED_IN_BY_THE_API_SERVER,
    r"metadata\.generation": FILLED_IN_BY_THE_API_SERVER,
    r"metadata\.labels\.serving\.knative\.dev/deployment-hash": "a hash of Knative's Go structs",
    r"spec\.strategy\.rollingUpdate\.maxSurge": FILLED_IN_BY_THE_API_SERVER,
    r"spec\.template\.spec\.(dnsPolicy|restartPolicy|schedulerName|securityContext)": FILLED_IN_BY_THE_API_SERVER,
    r".*ontainers\[\d\]\.(imagePullPolicy|terminationMessagePath)": FILLED_IN_BY_THE_API_SERVER,
    r".*ontainers\[\d\]\.terminationMessagePolicy": FILLED_IN_BY_THE_API_SERVER,
    r".*\.readinessProbe\.(failureThreshold|periodSeconds|timeoutSeconds)": FILLED_IN_BY_THE_API_SERVER,
    r".*\.httpGet\.(path|scheme)": FILLED_IN_BY_THE_API_SERVER,
}
SERVICE_DIFFERENCES = {
    r"status.*": "the API server's",
    r"metadata\.uid": FILLED_IN_BY_THE_API_SERVER,
    r"metadata\.ownerReferences\[0\]\.(apiVersion|kind)": "the revision owns it: requests need it before the others",
    r"spec\.(clusterIP|clusterIPs|internalTrafficPolicy|ipFamilies|ipFamilyPolicy)": FILLED_IN_BY_THE_API_SERVER,
    r"spec\.(sessionAffinity|type)": FILLED_IN_BY_THE_API_SERVER,
}
LOST_A_RACE = ("init", "local")
"""In these recordings Knative's first status was refused, so that a reason was never written."""
REVISIONS = [(name, f"{name}-00001") for name in SERVICES if name != "named"] + [
    ("named", "named-first"),
    (LONG, child_name(LONG, "-00001")),
]


def recorded(folder: str, service: str) -> list[dict[str, Any]]:
    return load(f"{folder}/{service}.yaml")


def revision_of(objects: list[dict[str, Any]], name: str) -> Revision:
    return Revision.parse(find(objects, "Revision", name))


@pytest.mark.parametrize(("service", "name"), REVISIONS)
def test_deployment_is_the_recorded_one(service: str, name: str) -> None:
    objects = recorded("created", service)
    replicas = 3 if service == "rps" else 1
    ours = build_deployment(revision_of(objects, name), recorded_settings(), replicas=replicas)
    assert unexplained(ours, find(objects, "Deployment"), DEPLOYMENT_DIFFERENCES) == []


@pytest.mark.parametrize(("service", "name"), REVISIONS)
def test_services_are_the_recorded_ones(service: str, name: str) -> None:
    objects = recorded("created", service)
    revision = revision_of(objects, name)
    for ours in (
        build_public_service(revision, recorded_settings()),
        build_private_service(revision, recorded_settings()),
    ):
        theirs = find(objects, "Service", ours["metadata"]["name"], group="v1")
        assert unexplained(ours, theirs, SERVICE_DIFFERENCES) == []


@pytest.mark.parametrize(("service", "name"), REVISIONS)
def test_status_of_a_new_revision_is_the_recorded_one(service: str, name: str) -> None:
    objects = recorded("created", service)
    fresh = revision_of(objects, name).replace(status=Revision().status)
    deployment = Deployment.parse(find(objects, "Deployment"))
    want = 3 if service == "rps" else -1  # Its initial scale, which a burst capacity of -1 makes known at once.
    report = ScaleReport(activity=Activity.ACTIVATING, reason="Queued", message=QUEUED, want=want)
    first = build_revision_status(fresh, Workload(deployment=None), now_s=NOW_S)
    seen = fresh.replace(status=fresh.status.parse(first))
    status = build_revision_status(seen, Workload(deployment=deployment, report=report), now_s=NOW_S + 1)
    theirs = find(objects, "Revision")["status"]
    recorded_conditions = conditions(theirs)
    if service in LOST_A_RACE:
        assert recorded_conditions["ContainerHealthy"] == ("Unknown", "", "", "")
        recorded_conditions["ContainerHealthy"] = ("Unknown", "Deploying", "", "")
    assert conditions(status) == recorded_conditions
    assert {**status, "conditions": []} == {**theirs, "conditions": []}


@pytest.mark.parametrize(("service", "name"), REVISIONS)
def test_status_of_a_ready_revision_is_the_recorded_one(service: str, name: str) -> None:
    before, after = recorded("created", service), recorded("ready", service)
    revision = revision_of(before, name)
    theirs = find(after, "Revision", name)["status"]
    idle = service == "rps"  # Recorded after it was scaled to zero.
    report = ScaleReport(
        activity=Activity.INACTIVE if idle else Activity.ACTIVE,
        reason="NoTraffic" if idle else "",
        message="The target is not receiving traffic." if idle else "",
        want=0 if idle else -1,
        initialized=True,
    )
    ready = Pod.parse({"metadata": {"name": "p"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    workload = Workload(
        deployment=Deployment.parse(find(after, "Deployment")), pods=() if idle else (ready,), report=report
    )
    status = build_revision_status(revision, workload, now_s=NOW_S)
    ours, recorded_conditions = conditions(status), conditions(theirs)
    if not idle:
        # The recording had no endpoints for pods that were marked ready by hand, so that Active never came.
        assert recorded_conditions.pop("Active")[0] == "Unknown"
        assert ours.pop("Active") == ("True", "", "", "Info")
    assert ours == recorded_conditions
    assert {**status, "conditions": []} == {**theirs, "conditions": []}
