"""How traffic is split, and which revision counts as stable."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from controller.api.inferenceservice import ComponentStatus, PredictorSpec
from controller.api.knative import Service, TrafficTarget
from controller.inferenceservice.traffic import follow_rollout, split_traffic
from tests.controller.inferenceservice.builders import knative_service

TAGGED = {"serving.kserve.io/enable-tag-routing": "true"}


def split(percent: int | None, stable: str | None, annotations: dict[str, str] | None = None) -> list[dict[str, Any]]:
    spec = PredictorSpec() if percent is None else PredictorSpec(canaryTrafficPercent=percent)
    status = ComponentStatus() if stable is None else ComponentStatus(latestRolledoutRevision=stable)
    return [target.to_json() for target in split_traffic(spec, status, annotations or {})]


def status(stable: str | None = None, previous: str | None = None) -> ComponentStatus:
    names = {"latestRolledoutRevision": stable, "previousRolledoutRevision": previous}
    return ComponentStatus(**{name: value for name, value in names.items() if value})


def shown(created: str, ready: str, *percents: tuple[str, int, bool], is_ready: bool = True) -> Service:
    """A Knative Service whose status has these lines of traffic: revision, percent, whether it is the latest."""
    traffic = [
        {"revisionName": name, "percent": percent, "latestRevision": latest, **({} if latest else {"tag": "prev"})}
        for name, percent, latest in percents
    ]
    return knative_service(
        created=created, latest_ready=ready, traffic=traffic, ready=str(is_ready if is_ready else "Unknown")
    )


def rollout(before: ComponentStatus, live: Service) -> tuple[str | None, str | None]:
    after = follow_rollout(before, live)
    return after.latestRolledoutRevision, after.previousRolledoutRevision


def test_without_a_canary_the_latest_gets_everything() -> None:
    assert split(None, "v1") == [{"latestRevision": True, "percent": 100}]


def test_a_canary_gets_its_percent_and_the_stable_revision_the_rest() -> None:
    assert split(20, "v1") == [
        {"latestRevision": True, "percent": 20},
        {"revisionName": "v1", "latestRevision": False, "percent": 80, "tag": "prev"},
    ]


def test_a_canary_of_zero_pins_the_stable_revision() -> None:
    assert [target["percent"] for target in split(0, "v1")] == [0, 100]


def test_a_canary_of_all_has_no_other_target() -> None:
    assert split(100, "v1") == [{"latestRevision": True, "percent": 100}]


def test_the_first_revision_gets_everything_whatever_the_percent() -> None:
    assert split(10, None) == [{"latestRevision": True, "percent": 100}]


def test_the_latest_is_tagged_where_the_annotation_asks_for_it() -> None:
    assert split(None, "v1", TAGGED) == [{"latestRevision": True, "percent": 100, "tag": "latest"}]
    assert [target.get("tag") for target in split(20, "v1", TAGGED)] == ["latest", "prev"]


@given(st.none() | st.integers(0, 100), st.none() | st.just("v1"), st.booleans())
def test_percents_sum_to_100(percent: int | None, stable: str | None, tagged: bool) -> None:
    assert sum(target["percent"] for target in split(percent, stable, TAGGED if tagged else {})) == 100


def test_a_revision_with_all_traffic_becomes_the_stable_one() -> None:
    assert rollout(status(), shown("v1", "v1", ("v1", 100, True))) == ("v1", None)
    assert rollout(status("v1"), shown("v2", "v2", ("v2", 100, True))) == ("v2", "v1")


def test_a_canary_leaves_the_stable_revision_alone() -> None:
    assert rollout(status("v1"), shown("v2", "v2", ("v2", 20, True), ("v1", 80, False))) == ("v1", None)


def test_consecutive_canaries_keep_the_stable_revision() -> None:
    """KServe's issue 2130: v2 was promoted, v3 comes as a canary; until v3 exists, v2 is shown as latest and as stable."""
    promoted = status("v2", "v1")
    just_asked = shown("v2", "v2", ("v2", 20, True), ("v2", 80, False), is_ready=False)
    assert rollout(promoted, just_asked) == ("v2", "v1")
    starting = shown("v3", "v2", ("v2", 20, True), ("v2", 80, False), is_ready=False)
    assert rollout(promoted, starting) == ("v2", "v1")
    assert rollout(promoted, shown("v3", "v3", ("v3", 20, True), ("v2", 80, False))) == ("v2", "v1")


def test_a_percent_without_a_new_revision_rolls_back_to_the_previous_one() -> None:
    live = shown("v2", "v2", ("v2", 0, True), ("v2", 100, False))
    assert rollout(status("v2", "v1"), live) == ("v1", "v1")
    assert rollout(status("v2"), live) == ("v2", None)


def test_a_roll_back_that_was_asked_for_is_not_forgotten() -> None:
    """The split with v1 is written; the status that says so may come later, and what is shown is the split before."""
    before = shown("v2", "v2", ("v2", 0, True), ("v2", 100, False), is_ready=False)
    pinned = TrafficTarget(revisionName="v1", latestRevision=False, percent=100, tag="prev")
    live = before.replace(spec=before.spec.replace(traffic=[TrafficTarget(latestRevision=True, percent=0), pinned]))
    assert rollout(status("v2", "v1"), live) == ("v1", "v1")
    assert rollout(status("v1", "v1"), live) == ("v1", "v1")


def test_a_lost_status_is_found_again_in_the_split() -> None:
    assert rollout(status(), shown("v2", "v2", ("v2", 20, True), ("v1", 80, False))) == ("v1", None)


def test_nothing_ready_changes_nothing() -> None:
    assert rollout(status("v1"), knative_service(ready="Unknown")) == ("v1", None)


@given(
    st.sampled_from(["v1", "v2", "v3"]),
    st.sampled_from([None, "v1", "v2"]),
    st.integers(0, 100),
    st.sampled_from(["v1", "v2", "v3"]),
)
def test_following_twice_changes_nothing_more_unless_it_rolled_back(
    stable: str, previous: str | None, percent: int, latest: str
) -> None:
    live = shown(latest, latest, (latest, percent, True), (stable, 100 - percent, False))
    once = follow_rollout(status(stable, previous), live)
    assert follow_rollout(once, live) == once
