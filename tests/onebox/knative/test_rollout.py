"""Traffic that moves to a new revision step by step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebox.knative.route.plan import RouteSnapshot, plan_route
from onebox.knative.route.rollout import (
    ConfigurationRollout,
    Rollout,
    Steps,
    next_step_s,
    parse_rollout,
    plan_rollout,
    render_rollout,
    split_traffic,
)
from onebox.knative.route.traffic import RevisionTarget, Traffic
from onebox.knative.settings import parse_settings
from tests.onebox.knative.building import NOW_S, configuration, revision, route, status
from tests.onebox.knative.comparing import conditions

REVISIONS = {f"svc-{number}": revision(f"svc-{number}") for number in range(1, 8)}
NS = 10**9


def target(name: str, percent: int, *, latest: bool = True, tag: str = "") -> RevisionTarget:
    followed = "svc" if latest else ""
    return RevisionTarget(revision=name, tag=tag, percent=percent, latest=latest, port=80, configuration=followed)


def following(name: str, percent: int = 100, *pinned: RevisionTarget) -> Traffic:
    listed = (target(name, percent), *pinned)
    return Traffic(listed=listed, targets={"": listed})


def shares(rollout: Rollout) -> list[tuple[str, int]]:
    return list(rollout[0].shares)


class World:
    """One route over time; the gateway follows `delay_s` after each change."""

    def __init__(self, duration_s: float = 120, percent: int = 100) -> None:
        self.now_s = NOW_S
        self.duration_s = duration_s
        self.percent = percent
        self.rollout: Rollout = ()
        self.look("svc-1", live=True)

    def look(self, newest: str, *, live: bool) -> list[tuple[str, int]]:
        self.rollout = plan_rollout(
            following(newest, self.percent),
            self.rollout,
            duration_s=self.duration_s,
            live=live,
            revisions=REVISIONS,
            now_s=self.now_s,
        )
        return shares(self.rollout)

    def begin(self, newest: str, *, ready_after_s: float) -> Steps:
        self.look(newest, live=False)
        self.now_s += ready_after_s
        self.look(newest, live=True)
        return self.rollout[0].steps

    def step(self, newest: str) -> list[tuple[str, int]]:
        wait_s = next_step_s(self.rollout, self.now_s)
        assert wait_s is not None
        self.now_s += wait_s
        return self.look(newest, live=True)


@pytest.mark.parametrize(
    ("percent", "ready_after_s", "size", "step_s"),
    [(100, 1, 1, 1.2020), (100, 3, 3, 3.0), (75, 3, 2, 3.0)],
)
def test_steps_are_knatives(percent: int, ready_after_s: float, size: int, step_s: float) -> None:
    world = World(percent=percent)
    steps = world.begin("svc-2", ready_after_s=ready_after_s)
    assert shares(world.rollout) == [("svc-1", percent - 1), ("svc-2", 1)]
    assert steps.size == size
    assert steps.duration / NS == pytest.approx(step_s, abs=1e-3)


def test_traffic_moves_step_by_step_until_all_of_it_has() -> None:
    world = World()
    world.begin("svc-2", ready_after_s=3)
    assert world.step("svc-2") == [("svc-1", 96), ("svc-2", 4)]
    seen = [world.step("svc-2") for _ in range(32)]
    assert seen[-2:] == [[("svc-1", 3), ("svc-2", 97)], [("svc-2", 100)]]
    assert next_step_s(world.rollout, world.now_s) is None
    assert world.now_s - NOW_S <= 120


def test_before_its_time_nothing_moves() -> None:
    world = World()
    world.begin("svc-2", ready_after_s=3)
    world.now_s += 2
    assert world.look("svc-2", live=True) == [("svc-1", 99), ("svc-2", 1)]
    assert next_step_s(world.rollout, world.now_s) == pytest.approx(1)


def test_a_gateway_that_does_not_follow_holds_it_back() -> None:
    world = World()
    world.look("svc-2", live=False)
    world.now_s += 1000
    assert world.look("svc-2", live=False) == [("svc-1", 99), ("svc-2", 1)]
    assert next_step_s(world.rollout, world.now_s) is None


def test_a_new_revision_in_the_middle_stacks_on_top_and_takes_of_the_newest() -> None:
    world = World()
    world.begin("svc-2", ready_after_s=3)
    world.step("svc-2")
    assert world.look("svc-3", live=False) == [("svc-1", 96), ("svc-2", 3), ("svc-3", 1)]
    world.begin("svc-3", ready_after_s=3)
    assert world.step("svc-3") == [("svc-1", 96), ("svc-3", 4)]


def test_without_a_duration_or_history_traffic_switches_at_once() -> None:
    assert World(duration_s=0).look("svc-2", live=True) == [("svc-2", 100)]
    fresh = World()
    fresh.rollout = ()
    assert fresh.look("svc-2", live=True) == [("svc-2", 100)]
    assert World(percent=1).look("svc-2", live=True) == [("svc-2", 1)]


def test_a_deleted_revision_gives_its_share_to_the_newest() -> None:
    world = World()
    world.begin("svc-2", ready_after_s=3)
    gone = {name: found for name, found in REVISIONS.items() if name != "svc-1"}
    rollout = plan_rollout(
        following("svc-2"), world.rollout, duration_s=120, live=True, revisions=gone, now_s=world.now_s
    )
    assert shares(rollout) == [("svc-2", 100)]


def test_a_changed_share_of_the_route_goes_on_from_where_it_was() -> None:
    world = World()
    world.begin("svc-2", ready_after_s=3)
    world.step("svc-2")
    world.percent = 50
    assert world.look("svc-2", live=True) == [("svc-1", 46), ("svc-2", 4)]
    world.percent = 80
    assert world.look("svc-2", live=True) == [("svc-1", 46), ("svc-2", 34)]


def test_targets_are_divided_and_pinned_ones_keep_their_share() -> None:
    traffic = following("svc-2", 60, target("svc-1", 40, latest=False))
    rolling = ConfigurationRollout(configuration="svc", tag="", percent=60, shares=(("svc-1", 50), ("svc-2", 10)))
    found = split_traffic(traffic, (rolling,), REVISIONS)
    assert [(part.revision, part.percent, part.latest) for part in found.listed] == [
        ("svc-1", 50, False),
        ("svc-2", 10, True),
        ("svc-1", 40, False),
    ]
    assert {part.revision: part.percent for part in found.targets[""]} == {"svc-1": 90, "svc-2": 10}


@given(
    changes=st.lists(
        st.tuples(st.integers(1, 7), st.integers(2, 100), st.floats(0, 50), st.booleans()), min_size=1, max_size=20
    ),
    duration_s=st.integers(1, 300),
)
def test_shares_always_sum_to_the_target(changes: list[tuple[int, int, float, bool]], duration_s: int) -> None:
    world = World(duration_s=duration_s)
    for number, percent, wait_s, live in changes:
        world.now_s += wait_s
        world.percent = percent
        found = world.look(f"svc-{number}", live=live)
        assert sum(share for _, share in found) == percent
        assert all(share > 0 for _, share in found)
        assert found[-1][0] == f"svc-{number}"
        assert parse_rollout(render_rollout(world.rollout)) == world.rollout


def test_the_annotation_is_knatives() -> None:
    text = '{"configurations":[{"configurationName":"plain","percent":100,"revisions":[{"revisionName":"plain-00001","percent":100}],"stepParams":{}}]}'  # noqa: E501
    assert render_rollout(parse_rollout(text)) == text


@pytest.mark.parametrize("text", ["", "{", "[]", '{"configurations":[{}]}', '{"configurations":[{"percent":"x"}]}'])
def test_a_broken_annotation_counts_as_none(text: str) -> None:
    assert parse_rollout(text) == ()


def snapshot(newest: str, rollout: Rollout, **fields: Any) -> RouteSnapshot:
    ready = status("True", latestReadyRevisionName=newest, latestCreatedRevisionName=newest)
    given_fields: dict[str, Any] = {
        "route": route(annotations={"serving.knative.dev/rollout-duration": "120s"}),
        "settings": parse_settings({"config-domain": {"localhost": ""}}),
        "gateway_port": 8080,
        "configurations": {"svc": configuration(found=ready)},
        "revisions": REVISIONS,
        "services": {},
        "live": True,
        "refusal": "",
        "rollout": rollout,
        "now_s": NOW_S,
    }
    return RouteSnapshot(**{**given_fields, **fields})


def test_a_route_shows_how_far_it_is_and_comes_back_for_the_next_step() -> None:
    world = World()
    world.begin("svc-2", ready_after_s=3)
    plan = plan_route(replace(snapshot("svc-2", world.rollout), now_s=world.now_s))
    assert plan.requeue_after_s == pytest.approx(3)
    assert plan.status is not None
    found = conditions(plan.status)
    assert found["IngressReady"][:2] == ("Unknown", "RolloutInProgress")
    assert found["Ready"][0] == "Unknown"
    assert [(entry["revisionName"], entry["percent"], entry["latestRevision"]) for entry in plan.status["traffic"]] == [
        ("svc-1", 99, False),
        ("svc-2", 1, True),
    ]
    virtual_service = plan.children[0].manifest
    weights = [entry["weight"] for entry in virtual_service["spec"]["http"][0]["route"]]
    assert weights == [99, 1]
    stored = virtual_service["metadata"]["annotations"]["networking.internal.knative.dev/rollout"]
    assert parse_rollout(stored) == world.rollout
