"""No request fails while services go from zero to many and back, are rolled out, tried as a canary and rolled back."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.box import Box, start_box, stop_box
from tests.e2e.manifests import isvc
from tests.soak import callers
from tests.soak.load import Load, Source, open_loop
from tests.soak.services import (
    SHORT_WINDOW,
    STREAMING,
    TALKING,
    foreign,
    pods_of,
    save_version,
    wait_foreign,
)
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e

TWO_AT_MOST = {**SHORT_WINDOW, "autoscaling.knative.dev/max-scale": "2"}
MANY = 3
"""Replicas that the waking service reaches."""
PIECES, GAP_S = 5, 0.1
WAKING_RATES = {"waking-grpc": 5.0, "pieces": 10.0, "call": 15.0, "talk": 5.0}
"""Requests/s over gRPC and in pieces to what goes to zero, while it is awake, at a share of 1."""
BOTH = {"ports": [{"containerPort": 8081, "name": "h2c", "protocol": "TCP"}]}
"""REST and gRPC on one port."""
CHANGING = ("changing", "changing-grpc")
"""The sources of the service that changes."""
IDLE = ("waking", "pieces", "talker")
"""Services that go to zero."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A onebox with the services of the soak, and two versions of the model that changes."""

    box: Box
    versions: tuple[str, str]

    def changing(self, version: int, **predictor: Any) -> None:
        manifest = isvc("changing", self.versions[version], **predictor)
        manifest["spec"]["predictor"]["model"] |= BOTH
        self.box.client.apply(manifest)

    def streaming(self, number: int) -> None:
        self.box.client.apply(foreign("pieces", STREAMING, TWO_AT_MOST, round_number=number, concurrency=4))

    def talking(self, number: int) -> None:
        self.box.client.apply(foreign("talker", TALKING, TWO_AT_MOST, h2c=True, round_number=number))

    def sources(self, share: float) -> list[Source]:
        """Requests of every kind; together 200/s at a share of 1, without those that come and go."""
        url = {name: self.box.client.get(name)["status"]["url"] for name in ("steady", "changing", "waking")}
        pieces, talker = wait_foreign(self.box, "pieces"), wait_foreign(self.box, "talker")
        return [
            Source(name="v1", caller=callers.v1(url["steady"], "steady"), rate=60 * share),
            Source(name="v2", caller=callers.v2(url["steady"], "steady"), rate=60 * share),
            Source(name="binary", caller=callers.v2_binary(url["steady"], "steady"), rate=40 * share),
            Source(name="changing", caller=callers.v1(url["changing"], "changing"), rate=25 * share),
            Source(name="changing-grpc", caller=callers.Infer(url["changing"], "changing"), rate=15 * share),
            Source(name="call", caller=callers.Grpc(talker), rate=0),
            Source(name="talk", caller=callers.Grpc(talker, words=5), rate=0),
            Source(name="waking", caller=callers.v1(url["waking"], "waking"), rate=0, lanes=64),
            Source(name="waking-grpc", caller=callers.Infer(url["waking"], "waking"), rate=0, lanes=64),
            Source(name="pieces", caller=callers.pieces(pieces, count=PIECES, gap_s=GAP_S), rate=0, lanes=64),
        ]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    box = start_box(tmp_path / "home")
    try:
        versions = (save_version(tmp_path / "zero", 0), save_version(tmp_path / "one", 1))
        scene = Scene(box, versions)
        waking = isvc(
            "waking",
            versions[0],
            annotations=SHORT_WINDOW,
            minReplicas=0,
            maxReplicas=MANY,
            scaleMetric="rps",
            scaleTarget=5,
        )
        waking["spec"]["predictor"]["model"] |= BOTH
        box.client.apply(isvc("steady", versions[0]))
        box.client.apply(waking)
        scene.changing(0)
        scene.streaming(0)
        scene.talking(0)
        for name in ("steady", "waking", "changing"):
            box.client.wait_ready(name, timeout_s=60)
        yield scene
    finally:
        stop_box(box)


def cycle(scene: Scene, load: Load, number: int, *, share: float) -> None:
    """From zero to many, a rollout, a canary, a rollback, and to zero again, while everything else goes on."""
    new, old = number % 2, 1 - number % 2
    wait_idle(scene)
    enter(load, f"{number} from zero to many")
    load.rates.update(waking=20, **{name: max(rate * share, 2) for name, rate in WAKING_RATES.items()})
    wait_for("the most replicas", lambda: len(pods_of(scene.box, "waking")) == MANY, timeout_s=60)
    more(load, "waking", 20)
    more(load, "waking-grpc", 3)
    more(load, "talk", 3)

    enter(load, f"{number} rollout")
    scene.changing(new)
    scene.streaming(number)
    scene.talking(number)
    settled(scene, load, {str(new)})
    wait_foreign(scene.box, "pieces")
    wait_foreign(scene.box, "talker")
    more(load, "pieces", 3)

    enter(load, f"{number} canary")
    scene.changing(old, canaryTrafficPercent=30)
    scene.box.client.wait_ready("changing", timeout_s=60)
    for source in CHANGING:
        wait_for(f"both versions answer {source}", lambda: len(load.answers_of(source, load.phase)) == 2)  # noqa: B023

    enter(load, f"{number} rollback")
    scene.changing(old, canaryTrafficPercent=0)
    settled(scene, load, {str(new)})

    enter(load, f"{number} to zero")
    load.rates.update(dict.fromkeys(("waking", *WAKING_RATES), 0))
    wait_idle(scene)


def wait_idle(scene: Scene) -> None:
    """Nothing runs of the services that come and go."""
    wait_for("no pods", lambda: not [name for service in IDLE for name in pods_of(scene.box, service)], timeout_s=90)


def settled(scene: Scene, load: Load, versions: set[str]) -> None:
    """The service that changes is ready, and from then on only these versions answer, over REST and gRPC."""
    scene.box.client.wait_ready("changing", timeout_s=60)
    what, attempt = load.phase, 0

    def only_these() -> bool:
        nonlocal attempt
        if all(load.answered(source, load.phase) >= 5 for source in CHANGING):
            if all(set(load.answers_of(source, load.phase)) == versions for source in CHANGING):
                return True
            attempt += 1
            load.phase = f"{what}, look {attempt}"
        return False

    wait_for(f"only {versions} answer", only_these, timeout_s=30)


def enter(load: Load, phase: str) -> None:
    load.phase = phase


def more(load: Load, source: str, count: int) -> None:
    """Waits until this many more requests are answered."""
    enough = load.answered(source) + count
    wait_for(f"{count} more of {source}", lambda: load.answered(source) >= enough, timeout_s=60)


def run(scene: Scene, *, share: float, lasting_s: float) -> None:
    with open_loop(scene.sources(share)) as load:
        until_s, number = time.monotonic() + lasting_s, 1
        cycle(scene, load, number, share=share)
        while time.monotonic() < until_s:
            number += 1
            cycle(scene, load, number, share=share)
    sys.stdout.write(f"\n{number} cycles, {load.told()}\n")
    assert not load.failures, load.told()


@pytest.mark.long
@pytest.mark.timeout(240)
def test_one_cycle_loses_nothing(scene: Scene) -> None:
    run(scene, share=0.15, lasting_s=0)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_three_minutes_at_200_requests_a_second_lose_nothing(scene: Scene) -> None:
    run(scene, share=1.0, lasting_s=180)
