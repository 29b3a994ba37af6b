"""Which statuses wait, and for how long."""

from __future__ import annotations

from typing import Any

import pytest

from onebox.knative.carrying import SETTLE_S, decide_wait_s
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
    assert (decide_wait_s(before, after, SETTLE_S) > 0) == waits


def test_it_waits_once() -> None:
    assert decide_wait_s({}, status("Unknown"), 0.5) == 0.5
    assert decide_wait_s({}, status("Unknown"), -0.5) == 0
