"""Kubernetes' own kinds: what is read, what rides along, what is written back."""

from __future__ import annotations

from controller.api.core import Container, Deployment, Pod, Probe


def test_a_field_that_nobody_named_is_written_back_as_it_came() -> None:
    manifest = {
        "name": "main",
        "image": "i",
        "securityContext": {"runAsNonRoot": True},
        "env": [{"name": "A", "value": "1"}],
    }
    assert Container.parse(manifest).to_json() == manifest


def test_what_was_not_set_is_not_written() -> None:
    deployment = Deployment.parse({"metadata": {"name": "a"}, "spec": {"replicas": 0, "template": {"spec": {}}}})
    assert deployment.to_json() == {"metadata": {"name": "a"}, "spec": {"replicas": 0, "template": {"spec": {}}}}


def test_a_probe_has_kubernetes_defaults() -> None:
    probe = Probe.parse({"httpGet": {"port": "http"}})
    assert (probe.periodSeconds, probe.timeoutSeconds, probe.failureThreshold) == (10, 1, 3)
    assert probe.httpGet is not None
    assert probe.httpGet.path == "/"


def test_a_pod_on_its_way_out_is_not_ready() -> None:
    status = {"conditions": [{"type": "Ready", "status": "True"}]}
    assert Pod.parse({"metadata": {"name": "p"}, "status": status}).is_ready
    assert not Pod.parse(
        {"metadata": {"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": status}
    ).is_ready
    assert not Pod.parse({"metadata": {"name": "p"}}).is_ready
