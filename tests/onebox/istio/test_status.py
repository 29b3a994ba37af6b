"""What a VirtualService says about the gateway."""

from __future__ import annotations

from typing import Any

import pytest

from onebox.istio.status import decide_status

NOW_S = 1_700_000_000.0
NOW, LATER = "2023-11-14T22:13:20Z", "2023-11-14T22:14:20Z"


def service(generation: int = 2, status: dict[str, Any] | None = None, **meta: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a", "uid": "u", "generation": generation, **meta}, "status": status or {}}


def accepted(generation: int, since: str = NOW) -> dict[str, Any]:
    condition = {"type": "Reconciled", "status": "True", "observedGeneration": generation, "lastTransitionTime": since}
    return {"observedGeneration": generation, "conditions": [condition]}


def refused(generation: int, message: str, since: str = NOW) -> dict[str, Any]:
    word = accepted(generation, since)
    word["conditions"][0] |= {"status": "False", "reason": "RefusedByEnvoy", "message": message}
    return word


@pytest.mark.parametrize(
    ("stored", "live", "refusal", "expected"),
    [
        pytest.param(service(), 0, "", None, id="nobody routes by it yet"),
        pytest.param(service(), 1, "", None, id="an older generation is in force"),
        pytest.param(service(), 2, "", accepted(2), id="it is in force"),
        pytest.param(service(status=accepted(2)), 2, "", None, id="that was said"),
        pytest.param(service(3, accepted(2, "T")), 3, "", accepted(3, "T"), id="a newer one, without a transition"),
        pytest.param(service(), 1, "no such cluster", refused(2, "no such cluster"), id="refused"),
        pytest.param(service(status=refused(2, "x")), 1, "x", None, id="that was said as well"),
        pytest.param(
            service(status=refused(2, "x", "T")), 1, "y", refused(2, "y", "T"), id="refused for another reason"
        ),
        pytest.param(service(3, refused(2, "x", "T")), 3, "", accepted(3), id="mended"),
        pytest.param(service(ownerReferences=[{"kind": "Route"}]), 2, "", None, id="a Route says so itself"),
    ],
)
def test_the_word_of_the_gateway(stored: dict[str, Any], live: int, refusal: str, expected: object) -> None:
    assert decide_status(stored, live_generation=live, refusal=refusal, now_s=NOW_S) == expected
