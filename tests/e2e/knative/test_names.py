"""F1, F2: names of what a Service makes, and names that its owner chose."""

from __future__ import annotations

import pytest

from ladle.sdk.client import ApiError
from tests.e2e.knative.asking import ask, load
from tests.e2e.knative.serving import Manifest, Serving, container, service, template
from tests.e2e.servers.text import HELLO, PEPPERONI, SPACEPORT
from tests.e2e.traffic import Traffic
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.long]

PREFIX = "serving.knative.dev"


def test_each_new_template_makes_a_revision_and_no_request_fails(serving: Serving) -> None:
    manifest = service("hello", template(container("text")))
    url = serving.run(manifest)
    assert ask(url).body == HELLO
    assert serving.get("configuration", "hello")["status"]["latestReadyRevisionName"] == "hello-00001"
    assert serving.get("route", "hello")["status"]["url"] == url
    labels = serving.get("revision", "hello-00001")["metadata"]["labels"]
    assert (
        labels.items()
        >= {
            f"{PREFIX}/service": "hello",
            f"{PREFIX}/configuration": "hello",
            f"{PREFIX}/configurationGeneration": "1",
            f"{PREFIX}/routingState": "active",
        }.items()
    )
    with load(url, clients=2, period_s=0.05) as prober:
        manifest["spec"]["template"]["spec"]["containers"][0]["image"] = "example.com/noodles:2"
        _expect_revision(serving, manifest, "hello-00002", prober)
        manifest["spec"]["template"]["metadata"]["labels"]["flavour"] = "mild"
        _expect_revision(serving, manifest, "hello-00003", prober)
        manifest["spec"]["template"]["metadata"]["annotations"]["cook"] = "Ann"
        _expect_revision(serving, manifest, "hello-00004", prober)
    assert not prober.failures
    assert serving.revisions("hello") == [f"hello-0000{number}" for number in range(1, 5)]


def _expect_revision(serving: Serving, manifest: Manifest, name: str, prober: Traffic) -> None:
    serving.run(manifest)
    status = serving.get("service", "hello")["status"]
    assert status["latestCreatedRevisionName"] == status["latestReadyRevisionName"] == name
    assert [target["revisionName"] for target in status["traffic"]] == [name]
    enough = prober.answered + 5
    wait_for("requests to the new revision", lambda: prober.answered > enough)


def test_a_metadata_change_makes_no_revision(serving: Serving) -> None:
    manifest = service("quiet", template(container("text")))
    serving.run(manifest)
    manifest["metadata"]["annotations"]["cook"] = "Ann"
    manifest["metadata"]["labels"] = {"flavour": "mild"}
    serving.run(manifest)
    wait_for(
        "the Configuration has the annotation",
        lambda: serving.get("configuration", "quiet")["metadata"]["annotations"].get("cook") == "Ann",
    )
    assert serving.revisions("quiet") == ["quiet-00001"]


def test_a_revision_whose_owner_named_it_changes_only_with_its_name(serving: Serving) -> None:
    named = service("byo", template(container("text", env={"TEXT": SPACEPORT}), revision="byo-first"))
    url = serving.run(named)
    assert serving.revisions("byo") == ["byo-first"]
    other = container("text", image="example.com/noodles:2", env={"TEXT": PEPPERONI})
    with pytest.raises(ApiError, match="without a name change"):
        serving.apply(service("byo", template(other, revision="byo-first")))
    assert ask(url).body == SPACEPORT
    serving.run(service("byo", template(other, revision="byo-second")))
    assert ask(url).body == PEPPERONI
    assert serving.revisions("byo") == ["byo-first", "byo-second"]
