"""F3, F4, F19, F23: splits, tags, gradual rollouts, and revisions by header."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.knative.asking import ask, ask_at_once, load
from tests.e2e.knative.serving import Manifest, Serving, conditions, container, service, template
from tests.e2e.servers.text import HELLO, PEPPERONI, SPACEPORT
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.long]

REQUESTS = 200
SHARE_MIN = REQUESTS // 4
"""Of a half: what chance does not come below in the life of this project."""


def says(text: str, revision: str) -> Manifest:
    return template(container("text", env={"TEXT": text}), revision=revision)


def target(tag: str = "", revision: str = "", percent: int | None = None) -> Manifest:
    """A target of traffic; without a revision it follows the latest one."""
    fields = {"tag": tag, "revisionName": revision, "percent": percent, "latestRevision": not revision}
    return {name: value for name, value in fields.items() if value not in ("", None)}


def traffic_of(serving: Serving, name: str) -> list[Manifest]:
    """What the status says of its traffic, but for URLs."""
    found = serving.get("service", name)["status"]["traffic"]
    return [{key: value for key, value in item.items() if key != "url"} for item in found]


def tagged_urls(serving: Serving, name: str) -> dict[str, str]:
    return {item["tag"]: item["url"] for item in serving.get("service", name)["status"]["traffic"] if "tag" in item}


def test_halves_are_halves_and_tags_are_exact(serving: Serving) -> None:
    serving.run(service("split", says(SPACEPORT, "split-one")))
    halves = (target("one", "split-one", 50), target("two", "split-two", 50))
    url = serving.run(service("split", says(PEPPERONI, "split-two"), *halves))
    bodies = Counter(answer.body for answer in ask_at_once(url, REQUESTS))
    assert set(bodies) == {SPACEPORT, PEPPERONI}
    assert min(bodies.values()) >= SHARE_MIN
    for tag, text in (("one", SPACEPORT), ("two", PEPPERONI)):
        answers = ask_at_once(tagged_urls(serving, "split")[tag], REQUESTS)
        assert {(answer.status, answer.body) for answer in answers} == {(200, text)}


def test_a_canary_in_five_steps(serving: Serving) -> None:
    serving.run(service("steps", says(SPACEPORT, "steps-one")))
    assert traffic_of(serving, "steps") == [{"revisionName": "steps-one", "percent": 100, "latestRevision": True}]

    pinned = (target("current", "steps-one", 100), target("latest"))
    serving.run(service("steps", says(SPACEPORT, "steps-one"), *pinned))
    assert traffic_of(serving, "steps") == [
        {"tag": "current", "revisionName": "steps-one", "percent": 100, "latestRevision": False},
        {"tag": "latest", "revisionName": "steps-one", "percent": 0, "latestRevision": True},
    ]

    halves = (target("current", "steps-one", 50), target("candidate", "steps-two", 50), target("latest"))
    url = serving.run(service("steps", says(PEPPERONI, "steps-two"), *halves))
    split = [
        {"tag": "current", "revisionName": "steps-one", "percent": 50, "latestRevision": False},
        {"tag": "candidate", "revisionName": "steps-two", "percent": 50, "latestRevision": False},
    ]
    latest = {"tag": "latest", "revisionName": "steps-two", "percent": 0, "latestRevision": True}
    assert traffic_of(serving, "steps") == [*split, latest]
    assert {answer.body for answer in ask_at_once(url, REQUESTS)} == {SPACEPORT, PEPPERONI}

    serving.run(service("steps", says(HELLO, "steps-three"), *halves))
    assert traffic_of(serving, "steps") == [*split, {**latest, "revisionName": "steps-three"}]
    assert {answer.body for answer in ask_at_once(url, REQUESTS)} == {SPACEPORT, PEPPERONI}
    assert ask(tagged_urls(serving, "steps")["latest"]).body == HELLO

    moved = (target("current", "steps-one", 50), target("candidate", percent=50), target("latest"))
    serving.run(service("steps", says(HELLO, "steps-three"), *moved))
    assert traffic_of(serving, "steps") == [
        split[0],
        {"tag": "candidate", "revisionName": "steps-three", "percent": 50, "latestRevision": True},
        {**latest, "revisionName": "steps-three"},
    ]
    assert {answer.body for answer in ask_at_once(url, REQUESTS)} == {SPACEPORT, HELLO}
    assert ask(tagged_urls(serving, "steps")["candidate"]).body == HELLO


def test_traffic_moves_gradually(serving: Serving) -> None:
    _roll_out(serving, "rollout", "8s")


@pytest.mark.long
def test_traffic_moves_gradually_in_a_minute(serving: Serving) -> None:
    _roll_out(serving, "slow-rollout", "60s")


def _roll_out(serving: Serving, name: str, duration: str) -> None:
    first = service(name, template(container("text", env={"TEXT": SPACEPORT})))
    first["metadata"]["annotations"]["serving.knative.dev/rollout-duration"] = duration
    url = serving.run(first)
    second = service(name, template(container("text", env={"TEXT": PEPPERONI})))
    second["metadata"]["annotations"] = first["metadata"]["annotations"]
    with load(url, clients=1, period_s=0.05) as prober, watching(serving, name) as seen:
        serving.run(second)
    assert not prober.failures
    rolling = [statuses for statuses in seen if statuses["RoutesReady"].get("reason") == "RolloutInProgress"]
    assert rolling
    shares = [statuses["shares"] for statuses in rolling if len(statuses["shares"]) > 1]
    assert shares
    assert all(sum(shares_then.values()) == 100 for shares_then in shares)
    newest = [shares_then[f"{name}-00002"] for shares_then in shares]
    assert newest == sorted(newest), "the new revision's share only grows"
    assert newest[0] < 100
    assert traffic_of(serving, name) == [{"revisionName": f"{name}-00002", "percent": 100, "latestRevision": True}]
    assert {answer.body for answer in ask_at_once(url, 20)} == {PEPPERONI}


@contextmanager
def watching(serving: Serving, name: str) -> Iterator[list[Manifest]]:
    """The condition RoutesReady and the shares of revisions, as they were while the block ran, without repetitions."""
    seen: list[Manifest] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            found = serving.get("service", name)
            shares = {item["revisionName"]: item["percent"] for item in found["status"].get("traffic") or ()}
            now = {"RoutesReady": conditions(found).get("RoutesReady", {}), "shares": shares}
            if not seen or seen[-1] != now:
                seen.append(now)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def test_a_header_chooses_a_tagged_revision(serving: Serving) -> None:
    serving.run(service("headers", says(SPACEPORT, "headers-one")))
    traffic = (target("rev1", "headers-one", 0), target("", "headers-two", 100))
    url = serving.run(service("headers", says(PEPPERONI, "headers-two"), *traffic))

    def by_tag(tag: str) -> str:
        return ask(url, headers={"Knative-Serving-Tag": tag}).body

    with serving.configured("config-features", {"tag-header-based-routing": "enabled"}):
        wait_for("the header leads to the tag's revision", lambda: by_tag("rev1") == SPACEPORT)
        assert by_tag("nobody") == PEPPERONI
        assert ask(url).body == PEPPERONI
    wait_for("the header is nothing special", lambda: by_tag("rev1") == PEPPERONI)
