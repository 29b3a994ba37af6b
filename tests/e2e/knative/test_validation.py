"""F25: what is refused, with the words that say what is wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ladle.sdk.client import ApiError
from tests.e2e.knative.serving import Manifest, Serving, container, service, template

pytestmark = [pytest.mark.e2e, pytest.mark.long]

SCALE = "autoscaling.knative.dev"


def _traffic(*targets: Manifest) -> Callable[[], Manifest]:
    return lambda: service("refused", template(container("text")), *targets)


def _spec(**fields: int) -> Callable[[], Manifest]:
    return lambda: service("refused", template(container("text"), **fields))


def _scale(**annotations: str) -> Callable[[], Manifest]:
    named = {f"{SCALE}/{word.replace('_', '-')}": value for word, value in annotations.items()}
    return lambda: service("refused", template(container("text"), annotations=named))


def _on_the_service(key: str, value: str) -> Callable[[], Manifest]:
    def build() -> Manifest:
        manifest = service("refused", template(container("text")))
        manifest["metadata"]["annotations"][key] = value
        return manifest

    return build


LATEST = {"latestRevision": True}
CASES = {
    "percents that are no 100": (_traffic({**LATEST, "percent": 99}), "Traffic targets sum to 99, want 100"),
    "a tag twice": (
        _traffic({**LATEST, "tag": "a", "percent": 50}, {**LATEST, "tag": "a", "percent": 50}),
        "Multiple definitions for",
    ),
    "a tag that is no name": (
        _traffic({**LATEST, "tag": "A_b", "percent": 100}),
        "invalid value: not a DNS 1035 label",
    ),
    "a revision that is the latest": (_traffic({**LATEST, "revisionName": "refused-1", "percent": 100}), "true"),
    "containerConcurrency": (_spec(containerConcurrency=1001), "expected 0 <= 1001 <= 1000"),
    "timeoutSeconds": (_spec(timeoutSeconds=601), "expected 0 <= 601 <= 600"),
    "less than the least": (_scale(min_scale="5", max_scale="3"), "max-scale=3 is less than min-scale=5"),
    "window": (_scale(window="5s"), "expected 6s <= 5s <= 1h"),
    "activation-scale": (_scale(activation_scale="1"), "must be greater than 1"),
    "an annotation in the wrong place": (_on_the_service(f"{SCALE}/min-scale", "1"), "min-scale"),
    "rollout-duration": (_on_the_service("serving.knative.dev/rollout-duration", "1.5s"), "rollout-duration=1.5s"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_is_refused(serving: Serving, case: str) -> None:
    build, words = CASES[case]
    with pytest.raises(ApiError) as refusal:
        serving.apply(build())
    assert words in str(refusal.value)
    assert refusal.value.status in (400, 422)
    assert serving.find("service", "refused") is None
