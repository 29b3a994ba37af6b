from __future__ import annotations

import random

from onebox.workloads.pods import HASH_LABEL, build_pod, parse_replica, template_hash
from tests.onebox.workloads.objects import deployment, pod


def test_a_pod_is_the_template_with_a_name_an_owner_and_a_node() -> None:
    owner = deployment(image="x")
    hash_ = template_hash(owner)
    made = build_pod(owner, hash_, random.Random(1))
    assert made["metadata"]["name"].startswith(f"web-{hash_}-")
    assert len(made["metadata"]["name"]) == len(f"web-{hash_}-") + 5
    assert made["metadata"]["labels"] == {"app": "web", HASH_LABEL: hash_}
    reference = made["metadata"]["ownerReferences"][0]
    assert (reference["kind"], reference["uid"], reference["controller"]) == ("Deployment", "uid-web", True)
    assert made["spec"]["nodeName"] == "onebox"
    assert made["spec"]["containers"][0]["image"] == "x"


def test_the_hash_follows_the_template_and_nothing_else() -> None:
    assert template_hash(deployment(1)) == template_hash(deployment(5, generation=9))
    assert template_hash(deployment(image="x")) != template_hash(deployment(image="y"))


def test_names_stay_dns_labels_however_long_the_deployments_name_is() -> None:
    long = deployment()
    long = long.replace(metadata=long.metadata.replace(name="n" * 63))
    assert len(build_pod(long, template_hash(long), random.Random(1))["metadata"]["name"]) == 63


def test_a_stored_pod_is_read_with_its_times() -> None:
    stored = pod(creationTimestamp="2026-01-01T00:00:00Z").to_json()
    stored["status"]["conditions"][0]["lastTransitionTime"] = "2026-01-01T00:00:05Z"
    found = parse_replica(stored)
    assert found.ready_since_s == found.created_s + 5
    assert found.finished_s is None
    stored["status"] |= {
        "phase": "Failed",
        "containerStatuses": [{"name": "c", "state": {"terminated": {"finishedAt": "2026-01-01T00:01:00Z"}}}],
    }
    assert parse_replica(stored).finished_s == found.created_s + 60


def test_a_deletion_cost_that_is_no_number_counts_as_none() -> None:
    costs = [
        parse_replica(pod(annotations={"controller.kubernetes.io/pod-deletion-cost": cost}).to_json()).deletion_cost
        for cost in ("-3", "cheap")
    ]
    assert costs == [-3, 0]
