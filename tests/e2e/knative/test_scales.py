"""F16, F17, F18, F24: to zero, from zero, and how many pods a revision starts with or keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.knative.asking import ask
from tests.e2e.knative.serving import SHORT_WINDOW, Manifest, Serving, conditions, container, service, template
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(300)]

ZERO_S = 90
"""The window, the grace period and fifteen seconds are 22; a busy machine gets more."""


def scaled(name: str, runs: Manifest, **words: str) -> Manifest:
    annotations = {f"autoscaling.knative.dev/{word.replace('_', '-')}": value for word, value in words.items()}
    return service(name, template(runs, annotations=SHORT_WINDOW | annotations))


def waiting_for_tokens(directory: Path) -> Manifest:
    """A server that is ready once it has taken a file out of the directory."""
    probe = {"httpGet": {"path": "/healthz"}, "periodSeconds": 1}
    return container("readiness", env={"TOKENS": str(directory)}, readinessProbe=probe)


def test_an_idle_revision_has_no_endpoints_soon(serving: Serving) -> None:
    url = serving.run(scaled("idle", container("text"), target_burst_capacity="-1"))
    assert ask(url).status == 200
    wait_for("no endpoints", lambda: not serving.ready_pods("idle-00001"), timeout_s=ZERO_S)
    wait_for("no pods", lambda: not serving.pods("idle-00001"), timeout_s=ZERO_S)
    assert ask(url).status == 200
    serving.delete("service", "idle")


def test_one_request_wakes_as_many_pods_as_the_activation_scale_says(serving: Serving) -> None:
    url = serving.run(scaled("woken", container("text"), activation_scale="5"))
    wait_for("no pods", lambda: not serving.pods("woken-00001"), timeout_s=ZERO_S)
    assert ask(url).status == 200
    wait_for(
        "five pods are wanted", lambda: serving.get("revision", "woken-00001")["status"].get("desiredReplicas") == 5
    )
    serving.delete("service", "woken")


def test_the_old_revision_keeps_its_pods_until_the_new_one_has_all_of_its_own(serving: Serving, tmp_path: Path) -> None:
    """Tokens make the new revision's pods ready one by one."""
    least = 4

    def manifest(tokens: Path) -> Manifest:
        return scaled("moved", waiting_for_tokens(tokens), min_scale=str(least))

    old, new = tmp_path / "old", tmp_path / "new"
    for directory in (old, new):
        directory.mkdir()
    for number in range(least):
        (old / f"token-{number}").touch()
    serving.run(manifest(old))
    assert serving.ready_pods("moved-00001") >= least
    serving.apply(manifest(new))
    for number in range(least):
        assert serving.ready_pods("moved-00001") >= least
        assert serving.get("service", "moved")["status"]["latestReadyRevisionName"] == "moved-00001"
        (new / f"token-{number}").touch()
        wait_for(f"{number + 1} new pods", lambda: serving.ready_pods("moved-00002") > number)  # noqa: B023
    serving.ready("service", "moved")
    wait_for("no old pods", lambda: not serving.pods("moved-00001"), timeout_s=ZERO_S)
    assert serving.ready_pods("moved-00002") == least
    serving.delete("service", "moved")


def test_a_revision_is_ready_with_its_initial_scale_and_not_before(serving: Serving, tmp_path: Path) -> None:
    runs = waiting_for_tokens(tmp_path)
    serving.apply(scaled("initial", runs, initial_scale="3"))
    revision = "initial-00001"
    # Pods do not wait for the Service's first status.
    wait_for("the Service has a status", lambda: "Ready" in conditions(serving.get("service", "initial")))
    for pods in (1, 2):
        (tmp_path / f"token-{pods}").touch()
        wait_for(f"{pods} of three pods", lambda: serving.ready_pods(revision) == pods, timeout_s=ZERO_S)  # noqa: B023
        assert conditions(serving.get("service", "initial"))["Ready"]["status"] == "Unknown"
    (tmp_path / "token-3").touch()
    serving.ready("service", "initial")
    wait_for("fewer pods", lambda: len(serving.pods(revision)) < 3, timeout_s=ZERO_S)
    serving.delete("service", "initial")


def test_a_revision_may_start_without_pods(serving: Serving) -> None:
    with serving.configured("config-autoscaler", {"allow-zero-initial-scale": "true"}):
        url = serving.run(scaled("unborn", container("text"), initial_scale="0"))
        assert serving.pods("unborn-00001") == []
        assert serving.replicas("unborn-00001") == 0
        assert ask(url).status == 200
    serving.delete("service", "unborn")
