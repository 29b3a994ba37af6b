"""Which revision a Configuration makes, and which one it calls the latest."""

from __future__ import annotations

from typing import Any

from controller.api.knative import Configuration, Revision
from controller.reconcile.plan import Plan
from onebox.knative.configuration.plan import ConfigurationSnapshot, plan_configuration
from tests.onebox.knative.building import NOW_S, TEMPLATE, configuration, revision, status
from tests.onebox.knative.comparing import conditions


def plan(found: Configuration, *revisions: Revision, named: Revision | None = None) -> Plan:
    return plan_configuration(ConfigurationSnapshot(configuration=found, revisions=revisions, named=named, now_s=NOW_S))


def told(found: Plan) -> tuple[str, str, str]:
    assert found.status is not None
    return conditions(found.status)["Ready"][:3]


def latest(found: Plan) -> tuple[Any, Any]:
    assert found.status is not None
    return found.status.get("latestCreatedRevisionName"), found.status.get("latestReadyRevisionName")


def test_a_generation_without_a_revision_gets_one() -> None:
    found = plan(configuration(generation=3), revision("svc-00002", generation=2))
    (child,) = found.children
    assert child.manifest["metadata"]["name"] == "svc-00003"
    assert latest(found) == ("svc-00003", "svc-00002")
    assert told(found)[0] == "Unknown"


def test_a_revision_is_made_once() -> None:
    assert plan(configuration(generation=1), revision("svc-00001")).children == ()


def test_ready_when_the_latest_revision_is() -> None:
    found = plan(configuration(), revision("svc-00001"))
    assert (latest(found), told(found)[0]) == (("svc-00001", "svc-00001"), "True")


def test_a_failed_revision_is_told_and_the_older_one_stays_latest_ready() -> None:
    before = configuration(generation=2, found=status("True", latestReadyRevisionName="svc-00001"))
    broken = revision("svc-00002", generation=2, ready="False")
    broken = broken.replace(status=broken.status.parse(status("False", reason="ExitCode1", message="boom")))
    found = plan(before, revision("svc-00001"), broken)
    assert latest(found) == ("svc-00002", "svc-00001")
    assert told(found) == ("False", "RevisionFailed", 'Revision "svc-00002" failed with message: boom.')
    assert [event.reason for event in found.events] == ["LatestCreatedFailed"]


def test_the_same_failure_is_no_news() -> None:
    broken = revision("svc-00001", ready="False")
    first = plan(configuration(), broken)
    assert first.status is not None
    seen = configuration(found=dict(first.status))
    assert plan(seen, broken).events == ()


def test_the_latest_ready_one_never_goes_back() -> None:
    before = configuration(generation=3, found=status("True", latestReadyRevisionName="svc-00002"))
    revisions = [
        revision("svc-00001", generation=1),
        revision("svc-00002", generation=2, ready="False"),
        revision("svc-00003", generation=3, ready="Unknown"),
    ]
    assert latest(plan(before, *revisions)) == ("svc-00003", "svc-00002")


def test_the_newest_ready_one_wins_over_one_that_became_ready_before() -> None:
    before = configuration(generation=3, found=status("True", latestReadyRevisionName="svc-00001"))
    revisions = [revision(f"svc-0000{number}", generation=number) for number in (1, 2)]
    assert latest(plan(before, *revisions, revision("svc-00003", generation=3, ready="Unknown")))[1] == "svc-00002"


def test_a_latest_ready_revision_that_was_deleted_is_told() -> None:
    before = configuration(generation=2, found=status("True", latestReadyRevisionName="svc-00001"))
    found = plan(before, revision("svc-00002", generation=2, ready="Unknown"))
    assert told(found) == ("False", "RevisionDeleted", 'Revision "svc-00001" was deleted.')


NAMED = {**TEMPLATE, "metadata": {"name": "svc-mine"}}


def test_a_name_of_the_users_own_is_used() -> None:
    (child,) = plan(configuration(template=NAMED)).children
    assert child.manifest["metadata"]["name"] == "svc-mine"


def test_a_name_that_another_configuration_has_is_refused() -> None:
    found = plan(configuration(template=NAMED), named=revision("svc-mine", owner="Configuration/other"))
    assert found.children == ()
    assert told(found)[:2] == ("False", "RevisionFailed")


def test_a_named_revision_with_another_content_is_refused() -> None:
    other = {"metadata": {"name": "svc-mine"}, "spec": {"containers": [{"name": "c", "image": "other"}]}}
    found = plan(configuration(template=other, generation=2), named=revision("svc-mine", generation=1))
    assert told(found)[:2] == ("False", "RevisionFailed")


def test_a_named_revision_serves_a_later_generation_that_changed_nothing_of_it() -> None:
    mine = revision("svc-mine", generation=1)
    found = plan(configuration(template=NAMED, generation=2), mine, named=mine)
    assert (found.children, told(found)[0]) == ((), "True")


def test_revisions_carry_who_asked_for_them_and_the_route_that_waits() -> None:
    marked = configuration(
        annotations={"serving.knative.dev/lastModifier": "ann", "serving.knative.dev/routes": "svc"},
        labels={"serving.knative.dev/service": "svc", "serving.knative.dev/serviceUID": "SVC", "team": "ml"},
    )
    (child,) = plan(marked).children
    assert child.manifest["metadata"]["annotations"] == {
        "serving.knative.dev/creator": "ann",
        "serving.knative.dev/routes": "svc",
        "serving.knative.dev/routingStateModified": "2026-11-18T11:06:40Z",
    }
    labels = child.manifest["metadata"]["labels"]
    assert labels["serving.knative.dev/routingState"] == "active"
    assert "team" not in labels


def test_a_revision_that_no_route_names_is_pending() -> None:
    (child,) = plan(configuration()).children
    assert child.manifest["metadata"]["labels"]["serving.knative.dev/routingState"] == "pending"
