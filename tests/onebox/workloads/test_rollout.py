from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebox.workloads.pods import Replica
from onebox.workloads.rollout import FINISHED_REST_S, Limits, is_active, is_available, limits_of, plan_rollout
from tests.onebox.workloads.objects import deployment, replica

NOW_S = 1000.0


def limits(replicas: int, *, surge: int = 1, unavailable: int = 0, **more: Any) -> Limits:
    return Limits(replicas=replicas, surge=surge, unavailable=unavailable, **more)


def step(limit: Limits, *replicas: Replica) -> tuple[int, list[str]]:
    rollout = plan_rollout(limit, replicas, "new", NOW_S)
    return rollout.create, [gone.name for gone in rollout.delete]


@pytest.mark.parametrize(
    ("strategy", "replicas", "surge", "unavailable"),
    [
        (None, 4, 1, 1),
        (None, 1, 1, 0),
        (None, 5, 2, 1),
        ({"rollingUpdate": {"maxUnavailable": 0}}, 1, 1, 0),
        ({"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 0}}, 3, 0, 1),
        ({"rollingUpdate": {"maxUnavailable": "50%", "maxSurge": "34%"}}, 3, 2, 1),
        ({"rollingUpdate": {"maxUnavailable": 9, "maxSurge": 2}}, 3, 2, 3),
        ({"type": "Recreate"}, 3, 0, 3),
    ],
)
def test_limits_are_kubernetes_own(
    strategy: dict[str, Any] | None, replicas: int, surge: int, unavailable: int
) -> None:
    extra: dict[str, Any] = {"strategy": strategy} if strategy else {}
    found = limits_of(deployment(replicas, **extra))
    assert (found.surge, found.unavailable) == (surge, unavailable)


def test_replicas_left_out_means_one() -> None:
    assert limits_of(deployment(None)).replicas == 1


def test_missing_pods_are_made_and_a_quiet_deployment_needs_nothing() -> None:
    assert step(limits(2)) == (2, [])
    assert step(limits(2), replica("a")) == (1, [])
    assert step(limits(2), replica("a"), replica("b", ready=False)) == (0, [])


def test_scaling_down_takes_unready_pods_first_and_then_the_newest() -> None:
    pods = [
        replica("old-ready", created_s=1, ready_since_s=10.0),
        replica("new-ready", created_s=2, ready_since_s=20.0),
        replica("unready", created_s=0, ready=False),
    ]
    assert step(limits(2), *pods) == (0, ["unready"])
    assert step(limits(1), *pods) == (0, ["unready", "new-ready"])
    assert step(limits(0), *pods) == (0, ["unready", "new-ready", "old-ready"])


def test_a_pod_that_is_cheap_to_lose_goes_first() -> None:
    assert step(limits(1), replica("a", deletion_cost=-1, ready_since_s=1.0), replica("b"))[1] == ["a"]


def test_terminating_pods_are_replaced_and_not_deleted_again() -> None:
    assert step(limits(1), replica("a", terminating=True)) == (1, [])


def test_an_old_pod_stays_until_its_successor_is_available() -> None:
    old = replica("a", "old")
    assert step(limits(1), old) == (1, [])
    assert step(limits(1), old, replica("b", ready=False)) == (0, [])
    assert step(limits(1), old, replica("b")) == (0, ["a"])


def test_an_old_pod_that_does_not_work_goes_once_its_successor_is_there() -> None:
    broken = replica("a", "old", ready=False)
    assert step(limits(1), broken) == (1, [])
    assert step(limits(1), broken, replica("b")) == (0, ["a"])


def test_without_surge_an_old_pod_makes_room_first() -> None:
    assert step(limits(1, surge=0, unavailable=1), replica("a", "old")) == (0, ["a"])


def test_recreate_waits_until_the_last_old_pod_is_gone() -> None:
    recreate = limits(2, surge=0, unavailable=2, recreate=True)
    assert step(recreate, replica("a", "old"), replica("b", "old")) == (0, ["a", "b"])
    assert step(recreate, replica("a", "old", terminating=True)) == (0, [])
    assert step(recreate) == (2, [])


def test_a_pod_that_ended_for_good_keeps_its_place_for_a_while() -> None:
    ended = replica("a", ready=False, finished_s=NOW_S - 1)
    rollout = plan_rollout(limits(1), [ended], "new", NOW_S)
    assert (rollout.create, rollout.delete) == (0, ())
    assert rollout.look_again_s == pytest.approx(FINISHED_REST_S - 1)
    later = plan_rollout(limits(1), [ended], "new", NOW_S + FINISHED_REST_S)
    assert (later.create, later.delete) == (1, (ended,))


def test_availability_takes_min_ready_seconds() -> None:
    patient = limits(1, min_ready_s=30.0)
    young = replica("b", ready_since_s=NOW_S - 10)
    assert not is_available(young, patient, NOW_S)
    rollout = plan_rollout(patient, [replica("a", "old"), young], "new", NOW_S)
    assert rollout.delete == ()
    assert rollout.look_again_s == pytest.approx(20)


@dataclass
class World:
    """Pods that come up, break and go in an order drawn by the seed, while the plan is followed."""

    limits: Limits
    rng: random.Random
    pods: dict[str, Replica] = field(default_factory=dict)
    made: int = 0

    def plan(self) -> bool:
        rollout = plan_rollout(self.limits, list(self.pods.values()), "new", NOW_S)
        for gone in rollout.delete:
            assert self.pods[gone.name].finished_s is None
            self.pods[gone.name] = replace(gone, terminating=True)
        for _ in range(rollout.create):
            self.made += 1
            self.pods[f"n{self.made}"] = replica(f"n{self.made}", ready=False)
        return bool(rollout.create or rollout.delete)

    def happen(self) -> bool:
        unready = [pod for pod in self.pods.values() if pod.ready_since_s is None and not pod.terminating]
        going = [pod for pod in self.pods.values() if pod.terminating]
        if not unready and not going:
            return False
        chosen = self.rng.choice([*unready, *going])
        if chosen.terminating:
            del self.pods[chosen.name]
        else:
            self.pods[chosen.name] = replace(chosen, ready_since_s=100.0)
        return True

    def active(self) -> list[Replica]:
        return [pod for pod in self.pods.values() if is_active(pod)]

    def available(self) -> int:
        return sum(is_available(pod, self.limits, NOW_S) for pod in self.pods.values())


@given(
    replicas=st.integers(0, 8),
    before=st.integers(0, 8),
    surge=st.integers(0, 3),
    unavailable=st.integers(0, 3),
    rng=st.randoms(use_true_random=False),
)
def test_a_rollout_stays_within_its_limits_and_arrives(
    replicas: int, before: int, surge: int, unavailable: int, rng: random.Random
) -> None:
    bound = limits(replicas, surge=surge, unavailable=unavailable if surge or unavailable else 1)
    world = World(bound, rng, {f"o{n}": replica(f"o{n}", "old", ready=rng.random() < 0.8) for n in range(before)})
    for _ in range(200):
        floor = min(world.available(), bound.available_min)
        ceiling = max(len(world.active()), replicas + surge)
        moved = world.plan()
        assert world.available() >= floor
        assert len(world.active()) <= ceiling
        if not moved and not world.happen():
            break
    assert [pod.template_hash for pod in world.pods.values()] == ["new"] * replicas
    assert not world.plan()
