"""Gradual rollout: traffic moves to a new revision in steps over a duration (pure; spec/knative.md 1.6).

A new revision starts with 1 %. How long the gateway took to follow tells how often it can be asked to: that gives the length
of a step, and the duration the number of steps and their size. Older revisions give, newest first. The state stands in an
annotation of the route's VirtualService, in Knative's own form, so that a restart goes on where it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import orjson

from controller.api.knative import Revision, Route
from onebox.knative.duration import parse_duration_s
from onebox.knative.names import ROLLOUT_DURATION
from onebox.knative.revision.services import service_port
from onebox.knative.route.traffic import DEFAULT_TARGET, Lookup, RevisionTarget, Traffic, merge_targets

_NS: Final = 10**9
_FIRST_PERCENT: Final = 1
"""What a new revision gets before anybody knows how fast the gateway follows; Knative's."""

Shares = tuple[tuple[str, int], ...]
"""(revision, percent), the oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """When and how a rollout goes on; times are Unix times in nanoseconds, as Knative writes them; 0: not known."""

    started: int = 0
    next: int = 0
    duration: int = 0
    """Length of one step."""
    size: int = 0
    """Percent that move in one step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationRollout:
    """How far one target of a route is in following one Configuration."""

    configuration: str
    tag: str
    percent: int
    """The target's share of the route, to be divided among the revisions."""
    shares: Shares
    steps: Steps = Steps()

    @property
    def is_done(self) -> bool:
        return len(self.shares) <= 1


Rollout = tuple[ConfigurationRollout, ...]


def plan_rollout(
    traffic: Traffic, before: Rollout, *, duration_s: float, live: bool, revisions: Lookup[Revision], now_s: float
) -> Rollout:
    """Where each target that follows a Configuration is now.

    `before`: what is stored; `live`: the gateway does what is stored; `duration_s`: 0 for no rollout.
    """
    now = round(now_s * _NS)
    known = {(item.configuration, item.tag): item for item in before}
    planned = []
    for goal in _goals(traffic):
        previous = known.get((goal.configuration, goal.tag))
        if duration_s == 0 or previous is None or goal.percent <= _FIRST_PERCENT:
            planned.append(goal)
            continue
        previous = _without_missing(previous, revisions)
        if live:
            previous = _with_steps(previous, duration_s, now)
        planned.append(_advanced(goal, previous, now))
    return tuple(planned)


def rollout_duration_s(route: Route, default_s: float) -> float:
    """The duration that a route asks for in its annotation; admission has refused what cannot be read."""
    text = ROLLOUT_DURATION.value(route.metadata.annotations)
    try:
        return default_s if text is None else parse_duration_s(text)
    except ValueError:
        return default_s


def next_step_s(rollout: Rollout, now_s: float) -> float | None:
    """Seconds until the next step; None where none is due."""
    due = [item.steps.next / _NS - now_s for item in rollout if not item.is_done and item.steps.next]
    return max(0.0, min(due)) if due else None


def split_traffic(traffic: Traffic, rollout: Rollout, revisions: Lookup[Revision]) -> Traffic:
    """The traffic with the targets that are rolling out divided among their revisions."""
    rolling = {(item.configuration, item.tag): item for item in rollout if not item.is_done}
    if not rolling:
        return traffic
    return Traffic(
        listed=tuple(
            part
            for target in traffic.listed
            for part in _divided(target, rolling.get((target.configuration, DEFAULT_TARGET)), revisions)
        ),
        targets={
            name: merge_targets(
                part
                for target in targets
                for part in _divided(target, rolling.get((target.configuration, name)), revisions)
            )
            for name, targets in traffic.targets.items()
        },
    )


def parse_rollout(text: str) -> Rollout:
    """The rollout in an annotation; empty where there is none, or nothing that can be read: traffic then switches at once."""
    try:
        stored = orjson.loads(text or "{}")
        return tuple(_parse(item) for item in stored.get("configurations", ()))
    except (ValueError, KeyError, TypeError, AttributeError):
        return ()


def render_rollout(rollout: Rollout) -> str:
    """The annotation."""
    return orjson.dumps({"configurations": [_rendered(item) for item in rollout]}).decode()


def _goals(traffic: Traffic) -> Iterator[ConfigurationRollout]:
    for name, targets in sorted(traffic.targets.items()):
        for target in targets:
            if target.configuration and target.percent:
                yield ConfigurationRollout(
                    configuration=target.configuration,
                    tag=name,
                    percent=target.percent,
                    shares=((target.revision, target.percent),),
                )


def _advanced(goal: ConfigurationRollout, previous: ConfigurationRollout, now: int) -> ConfigurationRollout:
    previous = _with_percent(previous, goal.percent)
    newest = goal.shares[0][0]
    if not previous.shares:
        return goal
    if previous.shares[-1][0] != newest:
        given = _given(previous.shares, _FIRST_PERCENT)
        return replace(goal, shares=(*given, (newest, _FIRST_PERCENT)), steps=Steps(started=now))
    if previous.is_done:
        return goal
    steps = previous.steps
    if not steps.next or now < steps.next:
        return replace(goal, shares=previous.shares, steps=steps)
    given = _given(previous.shares[:-1], steps.size)
    shares = (*given, (newest, goal.percent - sum(percent for _, percent in given)))
    if len(shares) == 1:
        return goal
    return replace(goal, shares=shares, steps=replace(steps, next=now + steps.duration))


def _given(shares: Shares, percent: int) -> Shares:
    """The shares after `percent` was taken from them, the newest first; empty ones are gone."""
    left: list[tuple[str, int]] = []
    for revision, share in reversed(shares):
        taken = min(share, percent)
        percent -= taken
        if share > taken:
            left.append((revision, share - taken))
    return tuple(reversed(left))


def _with_percent(previous: ConfigurationRollout, percent: int) -> ConfigurationRollout:
    """The target's share of the route was changed: the newest revision gets what is new, the oldest lose what is gone."""
    difference = percent - previous.percent
    if difference == 0 or not previous.shares:
        return previous
    if difference > 0:
        *older, (newest, share) = previous.shares
        return replace(previous, percent=percent, shares=(*older, (newest, share + difference)))
    kept = _given(tuple(reversed(previous.shares)), -difference)
    return replace(previous, percent=percent, shares=tuple(reversed(kept)))


def _without_missing(previous: ConfigurationRollout, revisions: Lookup[Revision]) -> ConfigurationRollout:
    """A revision that was deleted meanwhile cannot serve its share: the newest one does."""
    kept = [(name, share) for name, share in previous.shares if revisions.get(name) is not None]
    lost = sum(share for _, share in previous.shares) - sum(share for _, share in kept)
    if kept and lost:
        kept[-1] = (kept[-1][0], kept[-1][1] + lost)
    return replace(previous, shares=tuple(kept))


def _with_steps(previous: ConfigurationRollout, duration_s: float, now: int) -> ConfigurationRollout:
    """The gateway follows the first percent: now it is known how long a step has to be at least."""
    if previous.is_done or previous.steps.duration or not previous.steps.started:
        return previous
    step_min_s = max(1, math.ceil((now - previous.steps.started) / _NS))
    left_s = max(1.0, duration_s - step_min_s)
    rest = previous.percent - _FIRST_PERCENT
    count = min(max(1.0, left_s / step_min_s), rest)
    length = round(left_s / count * _NS)
    # Half up, as Go rounds.
    steps = replace(previous.steps, size=math.floor(rest / count + 0.5), duration=length, next=now + length)
    return replace(previous, steps=steps)


def _divided(
    target: RevisionTarget, rolling: ConfigurationRollout | None, revisions: Lookup[Revision]
) -> Iterator[RevisionTarget]:
    if rolling is None or not target.percent:
        yield target
        return
    *older, (newest, newest_share) = rolling.shares
    for name, share in older:
        if (revision := revisions.get(name)) is not None:
            yield replace(target, revision=name, percent=share, latest=False, port=service_port(revision))
    yield replace(target, revision=newest, percent=newest_share)


def _parse(item: Mapping[str, object]) -> ConfigurationRollout:
    steps = _mapping(item.get("stepParams") or {})
    return ConfigurationRollout(
        configuration=str(item["configurationName"]),
        tag=str(item.get("tag") or DEFAULT_TARGET),
        percent=_integer(item["percent"]),
        shares=tuple(
            (str(share["revisionName"]), _integer(share["percent"])) for share in _mappings(item.get("revisions") or ())
        ),
        steps=Steps(
            started=_integer(steps.get("starttime", 0)),
            next=_integer(steps.get("nextStepTime", 0)),
            duration=_integer(steps.get("stepDuration", 0)),
            size=_integer(steps.get("stepSize", 0)),
        ),
    )


def _rendered(item: ConfigurationRollout) -> dict[str, object]:
    steps = {
        "starttime": item.steps.started,
        "nextStepTime": item.steps.next,
        "stepDuration": item.steps.duration,
        "stepSize": item.steps.size,
    }
    return {
        "configurationName": item.configuration,
        **({"tag": item.tag} if item.tag else {}),
        "percent": item.percent,
        "revisions": [{"revisionName": name, "percent": share} for name, share in item.shares],
        "stepParams": {name: value for name, value in steps.items() if value},
    }


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise TypeError(value)
    return value


def _mappings(value: object) -> Iterable[Mapping[str, object]]:
    if not isinstance(value, list):
        raise TypeError(value)
    return [_mapping(item) for item in value]


def _integer(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(value)
    return value
