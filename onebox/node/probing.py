"""What a row of probe results means. (pure)

Kubernetes' rules, with one addition: while a container starts, its probe is tried every few milliseconds, and a success
counts at once. Failures count once a period as in Kubernetes, so thresholds mean the same time as on a cluster.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from onebox.node.probe_spec import Probe
from onebox.node.spec import Container

FIRST_INTERVAL_S = 0.02
"""Between the first probes of a starting container: a fifth of the 100 ms budget for an answer from zero."""
INTERVAL_GROWTH = 0.05
"""While it starts, a container is probed after each further 5 % of its age: 1 s old, every 50 ms; 1 min old, every 3 s."""


class ProbeKind(StrEnum):
    STARTUP = "startup"
    READINESS = "readiness"
    LIVENESS = "liveness"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeState:
    """Results of one probe of one run. `passed` is its verdict now; `failed`, the failure threshold was reached."""

    passed: bool = False
    failed: bool = False
    once_passed: bool = False
    successes: int = 0
    failures: int = 0
    counted_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What the probes of one run say. `failed` names the probe whose failure means that the container is restarted."""

    started: bool = True
    ready: bool = True
    failed: ProbeKind | None = None
    message: str = ""


def initial_health(container: Container) -> Health:
    """The health of a run that was not probed yet."""
    started = container.startup is None
    return Health(started=started, ready=started and container.readiness is None)


def advance(state: ProbeState, probe: Probe, *, passed: bool, now_s: float) -> ProbeState:
    """The state after one more result."""
    if passed:
        successes = state.successes + 1
        verdict = state.passed or successes >= probe.success_threshold
        return replace(
            state,
            successes=successes,
            failures=0,
            counted_s=None,
            passed=verdict,
            once_passed=state.once_passed or verdict,
        )
    if state.counted_s is not None and now_s - state.counted_s < probe.period_s:
        return replace(state, successes=0)
    failures = state.failures + 1
    failed = failures >= probe.failure_threshold
    return replace(
        state, successes=0, failures=failures, counted_s=now_s, passed=state.passed and not failed, failed=failed
    )


def interval_s(kind: ProbeKind, state: ProbeState, probe: Probe, *, age_s: float) -> float:
    """Seconds until the next try; `age_s` is the time since the first."""
    if kind is ProbeKind.LIVENESS or state.once_passed or state.successes:
        return probe.period_s
    return min(probe.period_s, max(FIRST_INTERVAL_S, age_s * INTERVAL_GROWTH))
