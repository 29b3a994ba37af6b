"""Admission beyond what was recorded: updates, the other kinds, settings, and odd pods."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from controller.api.admission import AdmissionRequest, Admit, Operation
from controller.base.errors import Invalid
from onebox.knative.admission import (
    ServingAdmission,
    admit_configuration,
    admit_knative_service,
    admit_revision,
    admit_route,
)
from onebox.knative.settings import parse_settings

CREATOR, MODIFIER = "serving.knative.dev/creator", "serving.knative.dev/lastModifier"


def request(
    obj: Mapping[str, Any], *, old: Mapping[str, Any] | None = None, user: str = "ann", **fields: Any
) -> AdmissionRequest:
    return AdmissionRequest(
        operation=Operation.CREATE if old is None else Operation.UPDATE,
        group="serving.knative.dev",
        kind=obj["kind"],
        namespace="ns",
        name=obj["metadata"].get("name", ""),
        object=obj,
        old=old,
        user=user,
        **fields,
    )


def service(*containers: dict[str, Any], template: dict[str, Any] | None = None, **pod: Any) -> dict[str, Any]:
    listed = list(containers) or [{"image": "app:1"}]
    spec = {"template": {"metadata": template or {}, "spec": {"containers": listed, **pod}}}
    return {"kind": "Service", "metadata": {"name": "svc", "namespace": "ns"}, "spec": spec}


def owned(kind: str, label: str, **spec: Any) -> dict[str, Any]:
    """An object that says whose it is, by a label and an owner reference."""
    owner = {
        "kind": "Service" if kind != "Revision" else "Configuration",
        "name": "svc",
        "uid": "u",
        "controller": True,
    }
    return {
        "kind": kind,
        "metadata": {"name": "svc", "labels": {label: "svc"}, "ownerReferences": [owner]},
        "spec": spec,
    }


def stored(obj: Mapping[str, Any], admit: Admit = admit_knative_service, **fields: Any) -> dict[str, Any]:
    return admit(request(obj, **fields))


def refused(obj: Mapping[str, Any], admit: Admit = admit_knative_service, **fields: Any) -> dict[str, str]:
    """Messages by field."""
    with pytest.raises(Invalid) as caught:
        admit(request(obj, **fields))
    return {error.field: error.message for error in caught.value.errors}


def test_nothing_of_the_offered_object_is_changed() -> None:
    offered = service()
    before = copy.deepcopy(offered)
    stored(offered)
    assert offered == before


def test_what_was_admitted_is_admitted_as_it_is() -> None:
    first = stored(service())
    assert stored(first, old=first) == first


def test_who_made_it_and_who_changed_it_last() -> None:
    first = stored(service())
    assert first["metadata"]["annotations"] == {CREATOR: "ann", MODIFIER: "ann"}
    changed = copy.deepcopy(first)
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "app:2"
    second = stored(changed, old=first, user="bob")
    assert second["metadata"]["annotations"] == {CREATOR: "ann", MODIFIER: "bob"}


def test_a_change_of_labels_has_no_modifier() -> None:
    first = stored(service())
    labelled = {**first, "metadata": {**first["metadata"], "labels": {"a": "b"}}}
    assert stored(labelled, old=first, user="bob")["metadata"]["annotations"][MODIFIER] == "ann"


@pytest.mark.parametrize("annotation", [CREATOR, MODIFIER])
def test_nobody_rewrites_who_it_was(annotation: str) -> None:
    first = stored(service())
    forged = copy.deepcopy(first)
    forged["metadata"]["annotations"][annotation] = "eve"
    assert f"metadata.annotations.{annotation}" in refused(forged, old=first)


def test_a_named_revision_keeps_its_content() -> None:
    first = stored(service(template={"name": "svc-mine"}))
    changed = copy.deepcopy(first)
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "app:2"
    message = refused(changed, old=first)["spec.template.metadata.name"]
    assert "without a name change" in message
    assert "spec.containers" in message
    changed["spec"]["template"]["metadata"]["name"] = "svc-other"
    assert stored(changed, old=first)


def test_a_manifest_with_a_named_revision_can_be_applied_again() -> None:
    offered = service(template={"name": "svc-mine"})
    first = stored(offered)
    # A server-side apply replaces the list of containers and keeps what its manifest does not have.
    links = first["spec"]["template"]["spec"]["enableServiceLinks"]
    again = service(template={"name": "svc-mine"}, enableServiceLinks=links)
    again["metadata"]["annotations"] = first["metadata"]["annotations"]
    assert stored(again, old=first)["spec"] == first["spec"]


def test_new_defaults_are_no_change_of_a_named_revision() -> None:
    first = stored(service(template={"name": "svc-mine"}))
    shorter = ServingAdmission(lambda: parse_settings({"config-defaults": {"revision-timeout-seconds": "60"}})).service
    assert stored(first, shorter, old=first)["spec"] == first["spec"]


def test_a_generated_name_leaves_no_room_for_one_of_the_users_own() -> None:
    offered = service(template={"name": "svc-mine"})
    offered["metadata"] = {"generateName": "svc-"}
    assert refused(offered) == {"spec.template.metadata.name": "must not set the field(s)"}


def test_a_status_is_never_refused() -> None:
    broken = {"kind": "Service", "metadata": {"name": "svc"}, "spec": {}}
    assert stored(broken, old=broken, subresource="status") == broken


def test_a_revision_never_changes() -> None:
    first = stored(
        owned("Revision", "serving.knative.dev/configuration", containers=[{"image": "app"}]), admit_revision
    )
    changed = copy.deepcopy(first)
    changed["spec"]["containers"][0]["image"] = "bee"
    assert "Immutable" in refused(changed, admit_revision, old=first)["spec"]
    labelled = {**first, "metadata": {**first["metadata"], "annotations": {"autoscaling.knative.dev/min-scale": "1"}}}
    assert stored(labelled, admit_revision, old=first) == labelled


@pytest.mark.parametrize(
    ("kind", "label", "admit"),
    [
        ("Configuration", "serving.knative.dev/service", admit_configuration),
        ("Route", "serving.knative.dev/service", admit_route),
        ("Revision", "serving.knative.dev/configuration", admit_revision),
    ],
)
def test_a_label_alone_makes_no_owner(kind: str, label: str, admit: Admit) -> None:
    offered = owned(kind, label, containers=[{"image": "app"}])
    offered["metadata"]["ownerReferences"] = []
    assert f"metadata.labels.{label}" in refused(offered, admit)


def test_a_configuration_of_a_service_has_the_services_history() -> None:
    template = {"metadata": {}, "spec": {"containers": [{"image": "app"}]}}
    offered = owned("Configuration", "serving.knative.dev/service", template=template)
    assert "annotations" not in stored(offered, admit_configuration)["metadata"]
    alone = {"kind": "Configuration", "metadata": {"name": "c"}, "spec": {"template": template}}
    assert stored(alone, admit_configuration)["metadata"]["annotations"][CREATOR] == "ann"


def test_a_route_needs_to_say_where_to() -> None:
    offered = {"kind": "Route", "metadata": {"name": "r"}, "spec": {"traffic": [{"percent": 100}]}}
    messages = refused(offered, admit_route)
    assert messages["spec.traffic[0].revisionName"] == "expected exactly one, got neither"
    both = {"revisionName": "r", "configurationName": "c", "percent": 100}
    assert "got both" in refused({**offered, "spec": {"traffic": [both]}}, admit_route)["spec.traffic[0].revisionName"]


def test_a_route_without_traffic_gets_none() -> None:
    offered = {"kind": "Route", "metadata": {"name": "r"}, "spec": {}}
    assert refused(offered, admit_route) == {"spec.traffic": "Traffic targets sum to 0, want 100"}


def test_containers_without_names_get_different_ones() -> None:
    pair = service(
        {"image": "app", "ports": [{"containerPort": 1}]},
        {"image": "bee"},
        {"image": "cee", "name": "user-container-0"},
    )
    listed = stored(pair)["spec"]["template"]["spec"]["containers"]
    assert [container["name"] for container in listed] == ["user-container-1", "user-container-2", "user-container-0"]


def test_a_sidecar_gets_no_probe() -> None:
    pair = service({"image": "app", "ports": [{"containerPort": 1}]}, {"image": "bee"})
    first, second = stored(pair)["spec"]["template"]["spec"]["containers"]
    assert first["readinessProbe"] == {"tcpSocket": {"port": 0}, "successThreshold": 1}
    assert "readinessProbe" not in second


def test_a_probe_with_a_period_is_kubernetes_own() -> None:
    probe = {"httpGet": {"path": "/"}, "periodSeconds": 5}
    found = stored(service({"image": "app", "readinessProbe": probe}))["spec"]["template"]["spec"]["containers"][0]
    assert found["readinessProbe"] == {
        "httpGet": {"path": "/", "port": 0},
        "periodSeconds": 5,
        "successThreshold": 1,
        "failureThreshold": 3,
        "timeoutSeconds": 1,
    }


def test_mounts_are_read_only_where_nothing_can_be_written() -> None:
    mounts = [{"name": "c", "mountPath": "/c"}, {"name": "e", "mountPath": "/e"}]
    volumes = [{"name": "c", "configMap": {"name": "x"}}, {"name": "e", "emptyDir": {}}]
    found = stored(service({"image": "app", "volumeMounts": mounts}, volumes=volumes))
    assert [mount.get("readOnly") for mount in found["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]] == [
        True,
        None,
    ]


@pytest.mark.parametrize(
    ("timeouts", "expected"),
    [
        ({}, {"timeoutSeconds": 300}),
        ({"timeoutSeconds": 0}, {"timeoutSeconds": 300}),
        ({"timeoutSeconds": 600}, {"timeoutSeconds": 600, "responseStartTimeoutSeconds": 300}),
        ({"timeoutSeconds": 10, "idleTimeoutSeconds": 5}, {"timeoutSeconds": 10, "idleTimeoutSeconds": 5}),
    ],
)
def test_timeouts(timeouts: dict[str, Any], expected: dict[str, int]) -> None:
    spec = stored(service(**timeouts))["spec"]["template"]["spec"]
    assert {key: value for key, value in spec.items() if "imeout" in key} == expected


@pytest.mark.parametrize(
    ("container", "field"),
    [
        ({"image": "UPPER/case"}, "image"),
        ({"image": "a@sha256:short"}, "image"),
        ({"image": "app", "env": [{"name": ""}]}, "env[0].name"),
        ({"image": "app", "envFrom": [{}]}, "envFrom[0].configMapRef"),
        ({"image": "app", "securityContext": {"privileged": True}}, "securityContext.privileged"),
        (
            {"image": "app", "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}},
            "securityContext.capabilities.add",
        ),
        ({"image": "app", "securityContext": {"runAsUser": -1}}, "securityContext.runAsUser"),
        ({"image": "app", "terminationMessagePolicy": "Shout"}, "terminationMessagePolicy"),
        ({"image": "app", "ports": [{"containerPort": 70000}]}, "ports.containerPort"),
        ({"image": "app", "livenessProbe": {}}, "livenessProbe.httpGet"),
        ({"image": "app", "livenessProbe": {"httpGet": {"port": "nobody"}}}, "livenessProbe.httpGet.port"),
        ({"image": "app", "readinessProbe": {"tcpSocket": {}, "periodSeconds": -1}}, "readinessProbe.periodSeconds"),
        ({"image": "app", "resources": {"claims": []}}, "resources.claims"),
    ],
)
def test_containers_that_are_refused(container: dict[str, Any], field: str) -> None:
    assert f"spec.template.spec.containers[0].{field}" in refused(service(container))


@pytest.mark.parametrize(
    "image", ["app", "app:1", "localhost:5000/a/b", "r.io/a/b:v1", f"app@sha256:{'0' * 64}", "a/b/c"]
)
def test_images_that_are_taken(image: str) -> None:
    assert stored(service({"image": image}))


@pytest.mark.parametrize(
    ("volume", "field"),
    [
        ({"name": "v"}, "secret"),
        ({"name": "v", "emptyDir": {}, "secret": {"secretName": "s"}}, "emptyDir"),
        ({"name": "v", "emptyDir": {"medium": "Paper"}}, "emptyDir.medium"),
        ({"name": "v", "configMap": {"items": [{"key": "k"}]}}, "configMap.items[0].path"),
        ({"name": "v", "projected": {"sources": [{"secret": {}}]}}, "projected[0].secret.name"),
        ({"name": "v", "nfs": {"server": "s"}}, "nfs"),
        ({"name": "V_", "emptyDir": {}}, "name"),
    ],
)
def test_volumes_that_are_refused(volume: dict[str, Any], field: str) -> None:
    mounts = [{"name": volume["name"], "mountPath": "/v", "readOnly": True}]
    fields = refused(service({"image": "app", "volumeMounts": mounts}, volumes=[volume]))
    assert f"spec.template.spec.volumes[0].{field}" in fields


def test_a_volume_that_nobody_mounts() -> None:
    fields = refused(service(volumes=[{"name": "v", "emptyDir": {}}]))
    assert fields == {"spec.template.spec.volumes[0].name": 'volume with name "v" not mounted'}


def test_a_sidecars_name_has_to_be_its_own() -> None:
    pair = service({"image": "app", "name": "x", "ports": [{"containerPort": 1}]}, {"image": "bee", "name": "x"})
    assert refused(pair) == {"spec.template.spec.containers[1].name": 'duplicate container name "x"'}


def test_several_containers_need_one_that_serves() -> None:
    fields = refused(service({"image": "app"}, {"image": "bee"}))
    assert fields["spec.template.spec.containers[*].ports"] == "missing field(s)"


def test_init_containers_have_no_probes() -> None:
    offered = service(initContainers=[{"image": "app", "readinessProbe": {"tcpSocket": {"port": 1}}}])
    assert refused(offered) == {
        "spec.template.spec.initContainers[0].readinessProbe": "field not allowed in an init container"
    }


def test_flags_decide_what_a_pod_may_say() -> None:
    closed, opened = (
        ServingAdmission(lambda features=features: parse_settings({"config-features": features})).service  # type: ignore[misc]
        for features in (
            {},
            {"kubernetes.podspec-nodeselector": "allowed", "kubernetes.podspec-init-containers": "enabled"},
        )
    )
    offered = service(nodeSelector={"a": "b"}, initContainers=[{"image": "init"}])
    fields = refused(offered, closed)
    assert fields["spec.template.spec.nodeSelector"] == "must not set the field(s)"
    assert "kubernetes.podspec-init-containers" in fields["spec.template.spec.initContainers"]
    assert stored(offered, opened)


def test_limits_come_from_the_settings() -> None:
    settings = parse_settings(
        {
            "config-defaults": {"max-revision-timeout-seconds": "900", "allow-container-concurrency-zero": "false"},
            "config-autoscaler": {"max-scale-limit": "5", "max-scale": "3"},
        }
    )
    admit = ServingAdmission(lambda: settings).service
    offered = service(template={"annotations": {"autoscaling.knative.dev/max-scale": "9"}}, timeoutSeconds=901)
    fields = refused(offered, admit)
    assert fields["spec.template.spec.timeoutSeconds"] == "expected 0 <= 901 <= 900"
    assert fields["spec.template.spec.containerConcurrency"] == "expected 1 <= 0 <= 1000"
    assert "spec.template.metadata.annotations.autoscaling.knative.dev/max-scale" in fields


def test_names_from_a_template() -> None:
    settings = parse_settings({"config-defaults": {"container-name-template": "{{.Name}}-main"}})
    found = ServingAdmission(lambda: settings).service(request(service()))
    assert found["spec"]["template"]["spec"]["containers"][0]["name"] == "svc-main"


def test_all_mistakes_are_told_at_once() -> None:
    offered = service({"image": ""}, timeoutSeconds=-1, containerConcurrency=2000)
    assert len(refused(offered)) == 3
