"""Deployments, ReplicaSets and Jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from controller.base.errors import FieldError
from controller.base.json import JsonObject, JsonView
from onebox.apiserver.kinds.pods import complete_template, validate_template
from onebox.apiserver.kinds.strategy import Generation, Strategy, World

_ROLLING = {"maxUnavailable": "25%", "maxSurge": "25%"}
"""Kubernetes' default rolling update."""
_IMMUTABLE = "field is immutable"


def _pod_spec(workload: JsonView) -> JsonObject:
    template = (workload.get("spec") or {}).get("template") or {}
    spec: JsonObject = template.get("spec") or {}
    return spec


def _template_labels(workload: JsonView) -> Mapping[str, str]:
    template = (workload.get("spec") or {}).get("template") or {}
    labels: Mapping[str, str] = (template.get("metadata") or {}).get("labels") or {}
    return labels


def selects(selector: JsonView, labels: Mapping[str, str]) -> bool:
    """Whether a LabelSelector object accepts these labels."""
    for name, value in (selector.get("matchLabels") or {}).items():
        if labels.get(name) != value:
            return False
    return all(_satisfies(expression, labels) for expression in selector.get("matchExpressions") or ())


def _satisfies(expression: JsonView, labels: Mapping[str, str]) -> bool:
    key, values = expression.get("key", ""), expression.get("values") or ()
    match expression.get("operator"):
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case _:
            return False


def _complete_deployment(deployment: JsonObject) -> None:
    complete_template(_pod_spec(deployment))
    strategy = (deployment.get("spec") or {}).get("strategy")
    if isinstance(strategy, dict) and strategy.get("type") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        for name, value in _ROLLING.items():
            rolling.setdefault(name, value)


def _validate_selected(workload: JsonView, old: JsonView | None) -> Iterator[FieldError]:
    spec = workload.get("spec") or {}
    selector, labels = spec.get("selector") or {}, _template_labels(workload)
    if not selects(selector, labels):
        message = f"Invalid value: {_json(labels)}: `selector` does not match template `labels`"
        yield FieldError(field="spec.template.metadata.labels", message=message)
    elif not selector:
        message = f"Invalid value: {_json(selector)}: empty selector is invalid for deployment"
        yield FieldError(field="spec.selector", message=message)
    yield from validate_template(_pod_spec(workload), "spec.template.spec")
    restart = _pod_spec(workload).get("restartPolicy", "Always")
    if restart != "Always":
        message = f'Unsupported value: "{restart}": supported values: "Always"'
        yield FieldError(field="spec.template.spec.restartPolicy", message=message, cause="FieldValueNotSupported")
    if old is not None and (old.get("spec") or {}).get("selector") != spec.get("selector"):
        yield FieldError(field="spec.selector", message=f"Invalid value: {_json(selector)}: {_IMMUTABLE}")


def _complete_job(job: JsonObject) -> None:
    complete_template(_pod_spec(job))
    spec = job.get("spec")
    if isinstance(spec, dict):
        if "completions" not in spec and "parallelism" not in spec:
            spec["completions"] = 1
        spec.setdefault("parallelism", 1)


def _prepare_job(job: JsonObject, old: JsonView | None, _: World) -> None:
    spec, uid, name = job.get("spec") or {}, job["metadata"].get("uid", ""), job["metadata"]["name"]
    if old is not None or spec.get("manualSelector"):
        return
    labels = {
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": name,
        "controller-uid": uid,
        "job-name": name,
    }
    template = spec.setdefault("template", {})
    metadata = template.setdefault("metadata", {})
    metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
    spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    job["metadata"]["labels"] = {**template["metadata"]["labels"], **(job["metadata"].get("labels") or {})}


def _validate_job(job: JsonView, old: JsonView | None) -> Iterator[FieldError]:
    spec = job.get("spec") or {}
    yield from validate_template(_pod_spec(job), "spec.template.spec")
    restart = _pod_spec(job).get("restartPolicy", "Always")
    if restart == "Always":
        message = 'Required value: valid values: "OnFailure", "Never"'
        yield FieldError(field="spec.template.spec.restartPolicy", message=message, cause="FieldValueRequired")
    if old is None:
        return
    before: JsonView = old.get("spec") or {}
    for name in ("completions", "selector", "template", "completionMode"):
        if before.get(name) != spec.get(name):
            yield FieldError(field=f"spec.{name}", message=f"Invalid value: {_json(spec.get(name))}: {_IMMUTABLE}")


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


_SKELETON = {
    "metadata": {},
    "spec": {"selector": None, "template": {"metadata": {}, "spec": {"containers": None}}},
    "status": {},
}

DEPLOYMENT = Strategy(
    complete=_complete_deployment,
    validate=_validate_selected,
    skeleton={**_SKELETON, "spec": {**_SKELETON["spec"], "strategy": {}}},
    generation=Generation.SPEC,
    status_keeps=("annotations",),
)
REPLICA_SET = Strategy(
    complete=lambda replica_set: complete_template(_pod_spec(replica_set)),
    validate=_validate_selected,
    skeleton=_SKELETON,
    generation=Generation.SPEC,
)
JOB = Strategy(
    complete=_complete_job,
    prepare=_prepare_job,
    validate=_validate_job,
    fields=lambda job: {"status.successful": str((job.get("status") or {}).get("succeeded", 0))},
    selectable=("status.successful",),
    skeleton={"metadata": {}, "spec": {"template": {"metadata": {}, "spec": {"containers": None}}}, "status": {}},
    generation=Generation.SPEC,
)
