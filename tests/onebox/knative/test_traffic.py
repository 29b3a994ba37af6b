"""What a Route's traffic means, and what is in its way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.knative import Configuration, Revision
from onebox.knative.route.traffic import BadTarget, RevisionTarget, Traffic, resolve_traffic
from tests.onebox.knative.building import configuration, revision, route, status

READY = configuration(found=status("True", latestReadyRevisionName="svc-2", latestCreatedRevisionName="svc-2"))
REVISIONS = {name: revision(name) for name in ("svc-1", "svc-2")}


def resolve(
    *targets: dict[str, Any], found: Configuration | None = READY, revisions: dict[str, Revision] | None = None
) -> Traffic | BadTarget:
    configurations = {"svc": found} if found is not None else {}
    return resolve_traffic(route(*targets), configurations, REVISIONS if revisions is None else revisions)


def good(*targets: dict[str, Any]) -> Traffic:
    found = resolve(*targets)
    assert isinstance(found, Traffic)
    return found


def bad(*targets: dict[str, Any], **world: Any) -> BadTarget:
    found = resolve(*targets, **world)
    assert isinstance(found, BadTarget)
    return found


LATEST = {"configurationName": "svc", "latestRevision": True}


def pinned(name: str, percent: int, tag: str = "") -> dict[str, Any]:
    return {"revisionName": name, "latestRevision": False, "percent": percent, **({"tag": tag} if tag else {})}


def test_a_configuration_means_its_latest_ready_revision() -> None:
    (target,) = good({**LATEST, "percent": 100}).listed
    assert target == RevisionTarget(revision="svc-2", tag="", percent=100, latest=True, port=80, configuration="svc")


def test_a_split_keeps_its_shares() -> None:
    traffic = good({**LATEST, "percent": 20}, pinned("svc-1", 80))
    assert [(found.revision, found.percent) for found in traffic.targets[""]] == [("svc-2", 20), ("svc-1", 80)]


def test_a_tag_gets_all_that_comes_for_it() -> None:
    traffic = good({**LATEST, "percent": 20}, pinned("svc-1", 80, "prev"))
    (tagged,) = traffic.targets["prev"]
    assert (tagged.revision, tagged.percent) == ("svc-1", 100)


def test_shares_of_one_revision_are_added_for_the_gateway_and_listed_apart() -> None:
    traffic = good({**LATEST, "percent": 30}, pinned("svc-2", 70, "stable"))
    assert [(found.revision, found.percent) for found in traffic.targets[""]] == [("svc-2", 100)]
    assert [found.percent for found in traffic.listed] == [30, 70]


def test_targets_that_say_the_same_are_listed_once() -> None:
    assert [found.percent for found in good(pinned("svc-1", 40), pinned("svc-1", 60)).listed] == [100]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, ("False", "ConfigurationMissing", 'Configuration "svc" referenced in traffic not found.')),
        (
            configuration(found=status("Unknown")),
            ("Unknown", "RevisionMissing", 'Configuration "svc" is waiting for a Revision to become ready.'),
        ),
        (
            configuration(found=status("False")),
            ("False", "RevisionMissing", 'Configuration "svc" does not have any ready Revision.'),
        ),
    ],
)
def test_a_configuration_that_cannot_serve(found: Configuration | None, expected: tuple[str, str, str]) -> None:
    target = bad({**LATEST, "percent": 100}, found=found)
    assert (target.status, target.reason, target.message) == expected


@pytest.mark.parametrize(
    ("ready", "expected"),
    [
        ("Unknown", ("Unknown", 'Revision "svc-1" is not yet ready.')),
        ("False", ("False", 'Revision "svc-1" failed to become ready.')),
    ],
)
def test_a_revision_that_is_not_ready(ready: str, expected: tuple[str, str]) -> None:
    target = bad(pinned("svc-1", 100), revisions={"svc-1": revision("svc-1", ready=ready)})
    assert (target.status, target.message) == expected


def test_a_revision_that_does_not_exist() -> None:
    assert bad(pinned("svc-9", 100)).reason == "RevisionMissing"


@pytest.mark.parametrize(
    ("owner", "message"),
    [
        ("other", 'Revision "svc-1" belongs to Service "other", not Service "svc".'),
        ("", 'Revision "svc-1" does not belong to Service "svc".'),
    ],
)
def test_a_revision_of_another_service(owner: str, message: str) -> None:
    target = bad(pinned("svc-1", 100), revisions={"svc-1": revision("svc-1", service=owner)})
    assert (target.reason, target.message) == ("RevisionNotOwned", message)


def test_of_two_bad_targets_the_failed_one_is_named() -> None:
    waiting, missing = revision("svc-1", ready="Unknown"), pinned("svc-9", 50)
    assert bad(pinned("svc-1", 50), missing, revisions={"svc-1": waiting}).message.startswith('Revision "svc-9"')


def test_http2_revisions_have_a_port_of_their_own() -> None:
    h2c = {"containers": [{"name": "c", "image": "i", "ports": [{"name": "h2c", "containerPort": 9000}]}]}
    found = REVISIONS["svc-1"]
    traffic = resolve(pinned("svc-1", 100), revisions={"svc-1": found.replace(spec=found.spec.parse(h2c))})
    assert isinstance(traffic, Traffic)
    assert traffic.listed[0].port == 81


@given(st.lists(st.sampled_from(("svc-1", "svc-2")), min_size=1, max_size=6), st.data())
def test_shares_make_a_hundred(names: list[str], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, 100), min_size=len(names) - 1, max_size=len(names) - 1)))
    percents = [high - low for low, high in zip([0, *cuts], [*cuts, 100], strict=True)]
    traffic = good(*(pinned(name, percent) for name, percent in zip(names, percents, strict=True)))
    assert sum(found.percent for found in traffic.targets[""]) == 100
    assert sum(found.percent for found in traffic.listed) == 100
