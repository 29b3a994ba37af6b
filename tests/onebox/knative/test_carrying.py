"""Which statuses wait, and for how long."""

from __future__ import annotations

from typing import Any

import pytest

from onebox.knative.carrying import SETTLE_S, WAKING_S, decide_wait_s
from tests.onebox.knative.building import status


@pytest.mark.parametrize(
    ("before", "after", "waits"),
    [
        ({}, status("Unknown"), True),
        (status("Unknown"), status("Unknown", reason="Other"), True),
        (status("False"), status("Unknown"), True),
        (status("True"), status("Unknown"), True),
        ({}, status("True"), False),
        ({}, status("False"), False),
        (status("True", generation=1), status("Unknown", generation=2), False),
        (status("Unknown", generation=1), status("Unknown", generation=2), True),
    ],
)
def test_only_a_not_yet_waits_and_takes_no_promise_back(
    before: dict[str, Any], after: dict[str, Any], waits: bool
) -> None:
    assert (decide_wait_s(before, after, 0.0, settle_s=SETTLE_S) > 0) == waits


def test_it_waits_once() -> None:
    assert decide_wait_s({}, status("Unknown"), 0.5, settle_s=2.0) == 1.5
    assert decide_wait_s({}, status("Unknown"), 2.5, settle_s=2.0) == 0


@pytest.mark.parametrize(
    ("active", "waits"), [("Unknown", True), ("True", False), ("False", False)], ids=["wakes", "is awake", "sleeps"]
)
def test_a_ready_object_of_which_something_begins_waits_a_little(active: str, waits: bool) -> None:
    before, after = status("True"), status("True")
    before["conditions"].append({"type": "Active", "status": "False" if active != "False" else "True"})
    after["conditions"].append({"type": "Active", "status": active})
    assert decide_wait_s(before, after, 0.0, settle_s=3.0) == (WAKING_S if waits else 0.0)
    assert decide_wait_s(before, after, WAKING_S, settle_s=3.0) == 0.0
