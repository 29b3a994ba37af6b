"""Annotations: what is refused, in Knative's words, and what a revision's scaling becomes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from onebox.knative.autoscaler.annotations import Annotations, validate_annotations
from onebox.knative.autoscaler.scaling import build_scaling, resolve_target
from onebox.knative.autoscaler.settings import AutoscalerSettings
from onebox.knative.autoscaler.windows import Aggregation, Metric

PREFIX = "autoscaling.knative.dev/"
KPA = "kpa.autoscaling.knative.dev"
HPA = "hpa.autoscaling.knative.dev"
ADMISSION = Path(__file__).parents[3] / "../shared/golden/knative/admission.yaml"
DEFAULTS = AutoscalerSettings()


def refusals(settings: AutoscalerSettings = DEFAULTS, **words: str) -> list[str]:
    annotations = {PREFIX + word.replace("_", "-"): value for word, value in words.items()}
    return [f"{e.message}: {e.field.removeprefix(PREFIX)}" for e in validate_annotations(annotations, settings)]


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        ({"class": "foo.knative.dev"}, "invalid value: foo.knative.dev: class"),
        ({"metric": "happiness"}, "invalid value: happiness: metric"),
        ({"metric": "", "class": HPA}, "invalid value: : metric"),
        ({"target": "0"}, "target 0 should be at least 0.01: target"),
        ({"target": "many"}, "invalid value: many: target"),
        ({"target": "nan"}, "invalid value: nan: target"),
        ({"target_utilization_percentage": "0.5"}, "expected 1 <= 0.5 <= 100: target-utilization-percentage"),
        ({"target_burst_capacity": "-2"}, "invalid value: -2: target-burst-capacity"),
        ({"min_scale": "-1"}, "expected 0 <= -1 <= 2147483647: min-scale"),
        ({"max_scale": "2147483648"}, "expected 0 <= 2147483648 <= 2147483647: max-scale"),
        ({"min_scale": "1.5"}, "invalid value: 1.5: min-scale"),
        ({"initial_scale": "0"}, "invalid value: 0: initial-scale=0 not allowed by cluster"),
        ({"initial_scale": "-1"}, "invalid value: -1: initial-scale must be greater than 0"),
        ({"initial_scale": "x"}, "invalid value: x: initial-scale"),
        ({"activation_scale": "1"}, "activation-scale=1 must be greater than 1: activation-scale"),
        ({"activation_scale": "x"}, "invalid value: x: activation-scale"),
        (
            {"activation_scale": "2", "min_scale": "3"},
            "min-scale=3 is greater than activation-scale=2: activation-scale",
        ),
        ({"activation_scale": "4", "max_scale": "3"}, "max-scale=3 is less than activation-scale=4: activation-scale"),
        ({"scale_down_delay": "2h"}, "expected 0s <= 2h <= 1h0m0s: scale-down-delay"),
        ({"scale_down_delay": "1500ms"}, "must be specified with at most second precision: scale-down-delay"),
        (
            {"scale_to_zero_pod_retention_period": "-1s"},
            "expected 0s <= -1s <= 1h0m0s: scale-to-zero-pod-retention-period",
        ),
        ({"window": "5s"}, "expected 6s <= 5s <= 1h0m0s: window"),
        ({"window": "60"}, "invalid value: 60: window"),
        ({"panic_window_percentage": "101"}, "expected 1 <= 101 <= 100: panic-window-percentage"),
        ({"panic_threshold_percentage": "109"}, "expected 110 <= 109 <= 1000: panic-threshold-percentage"),
        (
            {"metric_aggregation_algorithm": "median", "class": KPA},
            "invalid value: median: metric-aggregation-algorithm",
        ),
    ],
)
def test_one_wrong_annotation_is_refused(words: dict[str, str], refusal: str) -> None:
    assert refusals(**words) == [refusal]


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"class": "autoscaler.example.com", "metric": "anything", "metric_aggregation_algorithm": "median"},
        {"class": HPA, "metric": "cpu"},
        {"metric_aggregation_algorithm": "median"},
        {"class": KPA, "metric_aggregation_algorithm": "weighted-exponential", "metric": "rps"},
        {"min_scale": "3", "max_scale": "0", "activation_scale": "3"},
        {"target_burst_capacity": "-1", "target": "0.01", "window": "1h", "scale_to_zero_pod_retention_period": "1m5s"},
    ],
)
def test_these_are_accepted(words: dict[str, str]) -> None:
    assert refusals(**words) == []


def test_all_that_is_wrong_is_named_at_once() -> None:
    found = validate_annotations({PREFIX + "min-scale": "5", PREFIX + "max-scale": "3", PREFIX + "window": "soon"})
    assert [error.field for error in found] == [f"{PREFIX}max-scale, {PREFIX}min-scale", f"{PREFIX}window"]


def test_the_limit_of_max_scale_is_the_config_maps() -> None:
    limited = AutoscalerSettings(max_scale=5, max_scale_limit=10)
    assert refusals(limited, max_scale="11") == ["expected 1 <= 11 <= 10: max-scale"]
    assert refusals(limited, max_scale="0") == ["max-scale=0 (unlimited), must be less than 10: max-scale"]
    assert refusals(limited, max_scale="10") == []
    assert refusals(AutoscalerSettings(allow_zero_initial_scale=True), initial_scale="0") == []


def test_the_progress_deadline_is_whole_seconds() -> None:
    key = "serving.knative.dev/progress-deadline"
    assert [e.message for e in validate_annotations({key: "1500ms"})] == [
        "progress-deadline=1500ms is not at second precision"
    ]
    assert [e.message for e in validate_annotations({key: "-1s"})] == ["progress-deadline=-1s must be positive"]
    assert [e.message for e in validate_annotations({key: "soon"})] == ["invalid value: soon"]
    assert validate_annotations({key: "10m"}) == []


def test_recorded_refusals_are_ours_too() -> None:
    if not ADMISSION.exists():
        pytest.skip("the reference's recordings are not on this machine")
    checked = 0
    for case in yaml.safe_load(ADMISSION.read_text()):
        metadata = case["service"]["spec"]["template"].get("metadata") or {}
        annotations = metadata.get("annotations") or {}
        where = "spec.template.metadata.annotations."
        recorded = case["message"].partition("validation failed: ")[2] if where in case["message"] else ""
        ours = [
            f"{error.message}: " + ", ".join(where + key for key in error.field.split(", "))
            for error in validate_annotations(annotations)
        ]
        assert "\n".join(ours) == recorded, case["case"]
        checked += bool(recorded)
    assert checked >= 10


def test_old_spellings_count_and_the_new_one_wins() -> None:
    assert Annotations({PREFIX + "minScale": "3"}).integer("min-scale") == 3
    assert Annotations({PREFIX + "minScale": "3", PREFIX + "min-scale": "4"}).integer("min-scale") == 4
    assert refusals(minScale="-1") == ["expected 0 <= -1 <= 2147483647: minScale"]


def test_what_cannot_be_read_counts_as_absent() -> None:
    view = Annotations({PREFIX + word: "x" for word in ("target", "min-scale", "window", "metric")})
    assert (view.number("target"), view.integer("min-scale"), view.duration_s("window")) == (None, None, None)
    assert view.metric() is Metric.CONCURRENCY


@pytest.mark.parametrize(
    ("concurrency", "words", "target", "total"),
    [
        (0, {}, 70, 100),
        (10, {}, 7, 10),
        (1, {}, 0.7, 1),
        (10, {"target": "50"}, 7, 10),
        (0, {"target": "50", "target-utilization-percentage": "80"}, 40, 50),
        (12, {"target-utilization-percentage": "75"}, 9, 12),
        (0, {"metric": "rps"}, 140, 200),
        (0, {"metric": "rps", "target": "10"}, 7, 10),
        (1, {"metric": "rps", "target": "10"}, 7, 10),
        (1, {"target-utilization-percentage": "100"}, 1, 1),
        (0, {"target": "0.01", "target-utilization-percentage": "1"}, 0.01, 0.01),
    ],
)
def test_target_and_total(concurrency: int, words: dict[str, str], target: float, total: float) -> None:
    view = Annotations({PREFIX + word: value for word, value in words.items()})
    assert resolve_target(view, concurrency, DEFAULTS) == (pytest.approx(target), pytest.approx(total))


def test_annotations_win_over_the_config_map() -> None:
    annotations = {
        PREFIX + "window": "30s",
        PREFIX + "panic-window-percentage": "20",
        PREFIX + "panic-threshold-percentage": "150",
        PREFIX + "target-burst-capacity": "0",
        PREFIX + "max-scale": "9",
        PREFIX + "metric-aggregation-algorithm": "weighted-exponential",
        PREFIX + "scale-down-delay": "15s",
        PREFIX + "activation-scale": "4",
    }
    scaling = build_scaling(annotations, 10, reachable=True, settings=AutoscalerSettings(max_scale=3, min_scale=2))
    assert (scaling.stable_window_s, scaling.panic_window_s, scaling.aggregation) == (
        30,
        6,
        Aggregation.WEIGHTED_EXPONENTIAL,
    )
    assert (scaling.min_scale, scaling.max_scale) == (2, 9)
    decider = scaling.decider
    assert (decider.panic_threshold, decider.target_burst_capacity, decider.stable_window_s) == (1.5, 0, 30)
    assert (decider.scale_down_delay_s, decider.activation_scale, decider.initial_scale) == (15, 4, 1)


def test_an_unreachable_revision_has_no_minimum_and_no_retention() -> None:
    annotations = {PREFIX + "min-scale": "3", PREFIX + "scale-to-zero-pod-retention-period": "1m"}
    scaling = build_scaling(annotations, 0, reachable=False, settings=DEFAULTS)
    assert (scaling.min_scale, scaling.retention_s, scaling.decider.reachable) == (0, 0, False)


def test_what_scales_on_cpu_elsewhere_never_goes_to_zero_here() -> None:
    assert build_scaling({PREFIX + "class": HPA}, 0, reachable=True, settings=DEFAULTS).min_scale == 1
