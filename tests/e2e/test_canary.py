"""A canary from its first percent to promotion and back, by KServe's fields, under a load that never meets an error."""

from __future__ import annotations

import http.client
import json
import math
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import joblib
import pytest
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier

from tests.e2e.box import Box
from tests.e2e.manifests import INSTANCES, isvc
from tests.e2e.traffic import traffic
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

DEADLINE_S = 90.0
FEW, MANY = 400, 2000
"""Requests that are counted: many with the soaks."""
PERCENT = 20
SIGMAS = 5
"""Outside five standard deviations is one run in 1.7 million."""
CLIENTS = 4
TAGGED = {"serving.kserve.io/enable-tag-routing": "true"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """The storage URI of a model by what it always answers."""
    features, labels = load_iris(return_X_y=True)
    uris = {}
    for answer in (1, 2, 3):
        folder = tmp_path_factory.mktemp("models") / f"always-{answer}"
        folder.mkdir()
        model = DummyClassifier(strategy="constant", constant=answer).fit(features, [answer] * len(labels))
        joblib.dump(model, folder / "model.joblib")
        uris[answer] = folder.as_uri()
    return uris


def answers(url: str, name: str, count: int) -> Counter[int]:
    """Which model answered how many of `count` requests to the URL's host."""
    address = urlsplit(url)
    headers = {"Host": address.netloc, "Content-Type": "application/json"}

    def some(share: int) -> Counter[int]:
        counted: Counter[int] = Counter()
        connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=DEADLINE_S)
        for _ in range(share):
            connection.request("POST", f"/v1/models/{name}:predict", json.dumps(INSTANCES), headers)
            response = connection.getresponse()
            body = response.read()
            assert response.status == 200, body
            counted[json.loads(body)["predictions"][0]] += 1
        connection.close()
        return counted

    clients = min(CLIENTS, count)
    with ThreadPoolExecutor(clients) as threads:
        return sum(threads.map(some, [count // clients] * clients), Counter())


def shares(service: Mapping[str, Any]) -> dict[str, tuple[int, str]]:
    """The percent and the tag of each revision, by the end of its name, as the status has them."""
    listed = service["status"]["components"]["predictor"]["traffic"]
    return {item["revisionName"][-5:]: (item.get("percent", 0), item.get("tag", "")) for item in listed}


def rolled(box: Box, manifest: Mapping[str, Any], expected: Mapping[str, tuple[int, str]]) -> dict[str, Any]:
    """The service once it is Ready for this manifest with these shares."""
    name = manifest["metadata"]["name"]
    box.client.apply(manifest)

    def settled() -> dict[str, Any] | None:
        service = box.client.wait_ready(name, timeout_s=DEADLINE_S)
        return service if shares(service) == expected else None

    return wait_for(f"shares {expected}", settled, timeout_s=DEADLINE_S)


def revisions(service: Mapping[str, Any]) -> dict[str, str]:
    """The numbers of the revisions that the predictor's status names."""
    status = service["status"]["components"]["predictor"]
    return {field: value[-5:] for field, value in status.items() if field.endswith("Revision")}


@pytest.mark.parametrize("requests", [FEW, pytest.param(MANY, marks=pytest.mark.long)])
def test_canaries_are_counted_promoted_and_rolled_back_under_load(
    box: Box, models: Mapping[int, str], requests: int
) -> None:
    name = f"bird-{requests}"
    service = rolled(box, isvc(name, models[1]), {"00001": (100, "")})
    url = service["status"]["url"]
    with traffic(url, name, connections=2) as load:
        canary = isvc(name, models[2], canaryTrafficPercent=PERCENT)
        service = rolled(box, canary, {"00002": (PERCENT, ""), "00001": (100 - PERCENT, "prev")})
        assert revisions(service) == {
            "latestCreatedRevision": "00002",
            "latestReadyRevision": "00002",
            "latestRolledoutRevision": "00001",
        }
        counted = answers(url, name, requests)
        expected = requests * PERCENT / 100
        tolerance = SIGMAS * math.sqrt(expected * (1 - PERCENT / 100))
        assert set(counted) == {1, 2}
        assert counted[2] == pytest.approx(expected, abs=tolerance)

        # Another canary before the first was promoted: what was stable stays stable.
        canary = isvc(name, models[3], canaryTrafficPercent=PERCENT)
        service = rolled(box, canary, {"00003": (PERCENT, ""), "00001": (100 - PERCENT, "prev")})
        assert revisions(service)["latestRolledoutRevision"] == "00001"
        wait_for("both answer", lambda: set(answers(url, name, 40)) == {1, 3}, timeout_s=DEADLINE_S)

        service = rolled(box, isvc(name, models[3]), {"00003": (100, "")})
        wait_for("the status has it", lambda: promoted(box, name), timeout_s=DEADLINE_S)
        assert answers(url, name, 100) == {3: 100}

        service = rolled(box, isvc(name, models[3], canaryTrafficPercent=0), {"00003": (0, ""), "00001": (100, "prev")})
        assert answers(url, name, 100) == {1: 100}
    assert load.outcomes["200"] > 0
    assert load.failures == {}
    conditions = {item["type"]: item["status"] for item in service["status"]["conditions"]}
    assert {conditions[kind] for kind in ("Ready", "PredictorReady", "IngressReady", "LatestDeploymentReady")} == {
        "True"
    }
    box.client.delete(name)


def promoted(box: Box, name: str) -> bool:
    found = revisions(box.client.get(name))
    return (found["latestRolledoutRevision"], found["previousRolledoutRevision"]) == ("00003", "00001")


def test_tags_lead_to_one_revision_each(box: Box, models: Mapping[int, str]) -> None:
    rolled(box, isvc("parrot", models[1], annotations=TAGGED), {"00001": (100, "latest")})
    canary = isvc("parrot", models[2], annotations=TAGGED, canaryTrafficPercent=PERCENT)
    service = rolled(box, canary, {"00002": (PERCENT, "latest"), "00001": (100 - PERCENT, "prev")})
    listed = service["status"]["components"]["predictor"]["traffic"]
    urls = {item["tag"]: item["url"] for item in listed}
    assert {tag: urlsplit(url).hostname for tag, url in urls.items()} == {
        tag: f"{tag}-parrot-predictor.default.localhost" for tag in ("latest", "prev")
    }
    assert {tag: answers(url, "parrot", 20) for tag, url in urls.items()} == {"latest": {2: 20}, "prev": {1: 20}}
    box.client.delete("parrot")
