"""How often pods are probed."""

from __future__ import annotations

import pytest

from onebox.knative.activator.probes import probe_period_s


@pytest.mark.parametrize(
    ("waited_s", "pods", "period_s"),
    [
        (0.0, 1, 0.004),
        (0.1, 3, 0.004),
        (1.0, 1, 0.01),
        (10.0, 1, 0.1),
        (300.0, 1, 0.2),
        (0.0, 100, 0.05),
        (0.0, 10_000, 0.2),
    ],
)
def test_pods_are_probed_often_at_first_and_never_too_many_at_once(waited_s: float, pods: int, period_s: float) -> None:
    assert probe_period_s(waited_s, pods) == pytest.approx(period_s)
