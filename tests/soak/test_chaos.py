"""kill -9 of every kind of process under load: each is back within seconds, and only what was in it is lost."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.box import Box, start_box, stop_box
from tests.e2e.manifests import isvc
from tests.soak import callers
from tests.soak.chaos import Chaos, Kill, draw_kinds
from tests.soak.load import Failure, Source, open_loop
from tests.soak.services import SHORT_WINDOW, STREAMING, TALKING, foreign, save_version, wait_foreign

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(1700)]

KILLS = int(os.environ.get("LADLE_SOAK_KILLS", "50"))
SEED = int(os.environ.get("LADLE_SOAK_SEED", "5"))
TWO = {"autoscaling.knative.dev/min-scale": "2", "autoscaling.knative.dev/max-scale": "2"}
SLEEPERS = ("sleepy-a", "sleepy-b", "sleepy-c", "sleepy-d")
LOAD_OF = {
    "steady": frozenset({"v1", "v2", "binary"}),
    "pieces": frozenset({"pieces"}),
    "talker": frozenset({"call", "talk"}),
}


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[Box]:
    """Two pods of each service under load, and services that sleep."""
    box = start_box(tmp_path / "home")
    try:
        model = save_version(tmp_path / "zero", 0)
        box.client.apply(isvc("steady", model, minReplicas=2, maxReplicas=2))
        for name in SLEEPERS:
            box.client.apply(isvc(name, model, annotations=SHORT_WINDOW, minReplicas=0, maxReplicas=1))
        box.client.apply(foreign("pieces", STREAMING, TWO))
        box.client.apply(foreign("talker", TALKING, TWO, h2c=True))
        for name in ("steady", *SLEEPERS):
            box.client.wait_ready(name, timeout_s=90)
        yield box
    finally:
        stop_box(box)


def sources(box: Box) -> list[Source]:
    steady = box.client.get("steady")["status"]["url"]
    pieces, talker = wait_foreign(box, "pieces"), wait_foreign(box, "talker")
    return [
        Source(name="v1", caller=callers.v1(steady, "steady"), rate=30),
        Source(name="v2", caller=callers.v2(steady, "steady"), rate=30),
        Source(name="binary", caller=callers.v2_binary(steady, "steady"), rate=20),
        Source(name="pieces", caller=callers.pieces(pieces, count=5, gap_s=0.05), rate=8),
        Source(name="call", caller=callers.Grpc(talker), rate=15),
        Source(name="talk", caller=callers.Grpc(talker, words=5), rate=5),
    ]


def unexcused(failures: list[Failure], kills: list[Kill]) -> list[Failure]:
    return [failure for failure in failures if not any(kill.excuses(failure) for kill in kills)]


def test_each_process_may_be_killed_and_comes_back(crowded: Box) -> None:
    rng = random.Random(SEED)
    chaos = Chaos(crowded, rng, SLEEPERS, LOAD_OF)
    kills: list[Kill] = []
    sys.stdout.write(f"\nseed {SEED}, {KILLS} kills\n")
    with open_loop(sources(crowded)) as load:
        for number, kind in enumerate(draw_kinds(rng, KILLS), 1):
            load.phase = f"{number} {kind}"
            kills.append(kill := chaos.kill(number, kind))
            excused = sum(kill.excuses(failure) for failure in load.failures)
            sys.stdout.write(kill.told(load.started_s, excused) + "\n")
            sys.stdout.flush()
    lost = unexcused(load.failures + chaos.lost, kills)
    sys.stdout.write(load.told() + "\n")
    assert not lost, "\n".join(failure.told(load.started_s) for failure in lost)
    late = [kill for kill in kills if kill.late]
    assert not late, "\n".join(kill.told(load.started_s, 0) for kill in late)
