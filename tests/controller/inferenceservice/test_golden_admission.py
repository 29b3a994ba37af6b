"""What Ladle's admission says to the 122 objects that KServe's was offered: schema, defaults and rules, as `ladle validate`."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
import yaml

from controller.inferenceservice.offline_admission import Verdict, validate
from tests.controller.inferenceservice.builders import SHARED

GOLDEN = SHARED / "golden/kserve/admission.yaml"
pytestmark = pytest.mark.skipif(not GOLDEN.exists(), reason="the reference recordings are not here")

STRICTER = {
    "name-63": "Knative refuses the child, whose name is longer than a label",
    "name-64": "the same",
    "no-model-format": "no runtime can be found for it",
    "protocol-unknown": "no server speaks it",
    "uri-empty": "there is no model at the empty URI",
    "canary-101": "Knative refuses the traffic",
    "canary-negative": "Knative refuses the traffic",
    "target-utilization-101": "Knative's autoscaler refuses the revision",
    "batcher-negative": "the agent cannot make a batch of it",
    "resources-request-over-limit": "Kubernetes refuses the pod",
    "env-no-name": "Kubernetes refuses the pod",
    "rt-no-containers": "nothing could run",
    "ig-dangling-node": "KServe's router answers 500 for a node that is not there",
    "ig-no-steps": "KServe's router drops the connection",
}
"""Accepted by KServe though they can never work, each with the reason (verdict rule 3)."""
NO_VALUE = ("Required value", "Forbidden", "unknown field")
"""Refusals whose field is what is wrong, so that there is no value to show."""


@cache
def cases() -> dict[str, Any]:
    return dict(yaml.load(GOLDEN.read_text(), Loader=yaml.CSafeLoader)) if GOLDEN.exists() else {}


@cache
def cluster() -> list[dict[str, Any]]:
    """What stood in the cluster where KServe was asked: its runtimes and settings."""
    return list(yaml.load_all((GOLDEN.parent / "cluster.yaml").read_text(), Loader=yaml.CSafeLoader))


@cache
def verdict_on(name: str) -> Verdict:
    case = cases()[name]
    (verdict,) = validate([case["offered"]], existing=cluster(), old=case.get("stored"), namespace="golden")
    return verdict


def test_every_recorded_case_is_judged() -> None:
    assert len(cases()) == 122


@pytest.mark.parametrize("name", cases())
def test_verdicts_and_defaults_are_kserves(name: str) -> None:
    answer, verdict = cases()[name]["answer"], verdict_on(name)
    if not answer["accepted"] or name in STRICTER:
        assert verdict.errors
        return
    assert verdict.errors == ()
    assert verdict.defaulted is not None
    assert verdict.defaulted["spec"] == answer["spec"]
    assert (verdict.defaulted["metadata"].get("annotations") or {}) == answer["annotations"]


def test_only_what_kserve_accepts_stands_among_the_stricter() -> None:
    assert {name for name in STRICTER if cases()[name]["answer"]["accepted"]} == set(STRICTER)


@pytest.mark.parametrize("name", cases())
def test_a_refusal_names_the_field_and_its_value(name: str) -> None:
    offered = cases()[name]["offered"]
    for error in verdict_on(name).errors:
        assert re.match(r"(metadata|spec)\.", error.field), error
        if error.message.startswith(NO_VALUE):
            continue
        assert "value: " in error.message, error
        leaf = re.findall(r"[A-Za-z]+", error.field)[-1]
        assert leaf in str(offered), error
