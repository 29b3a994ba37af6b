"""Traffic targets of Services and Routes: defaults, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from controller.base.errors import FieldError
from controller.base.json import JsonObject
from onebox.knative.admission import errors
from onebox.knative.admission.words import dns_1035_problem, is_qualified_name

_PATH = "spec.traffic"
PERCENT_TOTAL = 100


def default_traffic(spec: JsonObject, *, of_service: bool) -> None:
    """Fills in each target, and, in a Service without targets, that all goes to the latest revision."""
    if of_service and not spec.get("traffic"):
        spec["traffic"] = [{"percent": PERCENT_TOTAL, "latestRevision": True}]
    for target in spec.get("traffic") or []:
        target.setdefault("latestRevision", not target.get("revisionName"))
        target.setdefault("percent", 0)


def check_traffic(spec: Mapping[str, Any], *, of_service: bool) -> Iterator[FieldError]:
    """Each target points somewhere, tags are unique host names, percents make 100."""
    targets: Sequence[Mapping[str, Any]] = spec.get("traffic") or []
    for index, target in enumerate(targets):
        yield from _check_target(target, f"{_PATH}[{index}]", of_service)
    yield from _check_tags(targets)
    total = sum(target.get("percent") or 0 for target in targets)
    if total != PERCENT_TOTAL:
        yield errors.generic(_PATH, f"Traffic targets sum to {total}, want {PERCENT_TOTAL}")


def _check_target(target: Mapping[str, Any], path: str, of_service: bool) -> Iterator[FieldError]:
    revision, latest = target.get("revisionName", ""), target.get("latestRevision")
    if latest is not None and latest == bool(revision):
        word = "true" if latest else "false"
        yield errors.generic(
            f"{path}.latestRevision", f'may not set revisionName "{revision}" when latestRevision is {word}'
        )
    yield from _check_reference(target, path, of_service)
    percent = target.get("percent") or 0
    if not 0 <= percent <= PERCENT_TOTAL:
        yield errors.out_of_bounds(f"{path}.percent", percent, 0, PERCENT_TOTAL)
    if target.get("url"):
        yield errors.forbidden(f"{path}.url")


def _check_reference(target: Mapping[str, Any], path: str, of_service: bool) -> Iterator[FieldError]:
    revision, configuration = target.get("revisionName", ""), target.get("configurationName", "")
    if of_service and configuration:
        yield errors.forbidden(f"{path}.configurationName")
    elif revision and configuration:
        yield from errors.exactly_one(path, ("revisionName", "configurationName"), ())
    elif revision or configuration:
        field, name = ("revisionName", revision) if revision else ("configurationName", configuration)
        if not is_qualified_name(name):
            yield errors.bad_key(f"{path}.{field}", name)
    elif not of_service:
        yield from errors.exactly_one(path, (), ("revisionName", "configurationName"))


def _check_tags(targets: Sequence[Mapping[str, Any]]) -> Iterator[FieldError]:
    first: dict[str, int] = {}
    for index, tag in enumerate(target.get("tag", "") for target in targets):
        if not tag:
            continue
        if problem := dns_1035_problem(tag):
            yield errors.invalid(f"{_PATH}[{index}].tag", f"not a DNS 1035 label: [{problem}]")
        if tag in first:
            for involved in (first[tag], index):
                yield FieldError(
                    field=f"{_PATH}[{involved}].tag",
                    message=f'Multiple definitions for "{tag}"',
                    cause="FieldValueDuplicate",
                )
        first.setdefault(tag, index)
