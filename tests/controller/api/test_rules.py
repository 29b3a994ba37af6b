"""Which test holds which rule of KServe's admission, and which recorded case shows it: a rule without a test fails here.

The rules are those of the reference (spec/kserve.md 1.1, 1.2, 1.4, 1.5), in its order. Every recorded case is judged by
tests/controller/inferenceservice/test_golden_admission.py as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.controller.api import (
    test_defaulting,
    test_validation,
    test_validation_later_kinds,
    test_validation_runtimes,
)
from tests.controller.inferenceservice.builders import SHARED

GOLDEN = SHARED / "golden/kserve/admission.yaml"
DEFAULTING, SERVICES, RUNTIMES, OTHERS = (
    test_defaulting, test_validation, test_validation_runtimes, test_validation_later_kinds
)  # fmt: skip


@dataclass(frozen=True)
class Rule:
    module: ModuleType
    tests: str
    """Names without `test_`, in words."""
    cases: str = ""
    """Recorded cases that this rule decides; those of a first rule where several do."""


RULES = {
    "defaults 1: deployment mode": Rule(
        DEFAULTING,
        "old_names_of_modes_become_the_new_ones a_default_mode_other_than_knative_is_written_down",
        "deployment-mode-serverless",
    ),
    "defaults 2: legacy keys, protocol, modelFormat annotation": Rule(
        DEFAULTING,
        "a_legacy_key_becomes_a_model a_legacy_key_beside_a_model_vanishes some_formats_mean_v2 "
        "a_protocol_that_is_said_stays modelmesh_keeps_its_legacy_keys",
        "plain legacy-sklearn legacy-lightgbm legacy-pytorch legacy-onnx-file legacy-onnx-wrong-ext legacy-paddle "
        "legacy-huggingface legacy-pytorch-cpu-image-gpu legacy-tf-gpu-no-gpu-image model-and-sklearn",
    ),
    "defaults 3: container name, resources, ART's version": Rule(
        DEFAULTING,
        "the_one_container_of_a_component_gets_name_and_resources of_several_containers_the_one_with_the_name_is_the_main_one "
        "default_amounts_never_contradict_given_ones an_art_explainer_gets_a_name_a_version_and_resources",
        "custom-container-no-name custom-container-storage-env custom-container-bad-storage-env transformer "
        "transformer-two-containers explainer-art resources-gpu",
    ),
    "defaults 5: automountServiceAccountToken": Rule(DEFAULTING, "tokens_can_be_kept_out_of_pods", "service-account"),
    "defaults: mount path, ports of probes": Rule(
        DEFAULTING, "sources_get_a_mount_path_and_probes_a_port", "storage-uris storage-uris-default-path"
    ),
    "update: not while it is deleted": Rule(
        SERVICES, "an_object_on_its_way_out_is_never_held_back status_and_deletions_are_not_judged"
    ),
    "update: deployment mode": Rule(SERVICES, "the_mode_cannot_be_changed", "update-mode-change"),
    "update: predictor.name with storageUri": Rule(
        SERVICES, "the_predictors_name_changes_only_with_its_model", "update-add-transformer"
    ),
    "1 name": Rule(
        SERVICES,
        "names_start_with_a_letter_and_have_no_dots names_leave_room_for_the_components_suffix",
        "name-starts-with-digit name-63 name-64 name-ends-dash",
    ),
    "2 autoscalerClass and other annotations": Rule(
        SERVICES,
        "annotations_with_words_that_nobody_knows_are_refused",
        "autoscaler-class-none target-utilization-101 stop tag-routing",
    ),
    "3 PYTHONPATH": Rule(SERVICES, "what_is_wrong_with_a_model_is_named"),
    "3 PYTHONPATH in workers": Rule(RUNTIMES, "what_is_wrong_with_a_model_over_nodes_is_named"),
    "4 several nodes: containers, sizes, env, source, autoscaler, GPU types": Rule(
        RUNTIMES,
        "what_is_wrong_with_a_model_over_nodes_is_named a_model_over_nodes_that_fits_together_is_accepted "
        "the_settings_may_know_more_gpus",
        "worker-spec-knative worker-spec-pps-zero",
    ),
    "5 collocation": Rule(
        SERVICES,
        "a_transformer_beside_the_model_has_no_model_of_its_own",
        "collocated collocated-storage-both collocated-model",
    ),
    "6 the name of a model's container": Rule(
        SERVICES, "what_is_wrong_with_a_model_is_named", "model-container-named model-image"
    ),
    "7 storageUris": Rule(
        SERVICES,
        "mount_paths_of_several_sources_must_fit_together one_source_or_several_but_not_both",
        "storage-uris-dotdot storage-uris-no-common storage-uris-and-uri storage-uris-empty-uri",
    ),
    "7 storageUri: any, the controller says which can be fetched": Rule(
        SERVICES,
        "what_is_wrong_with_a_model_is_named",
        "no-storage storage-spec-type uri-s3 uri-pvc uri-https uri-hdfs uri-azure uri-hf uri-oci uri-oci-mc uri-git "
        "uri-ftp uri-absolute uri-empty uri-mlflow uri-space",
    ),
    "8 confidential": Rule(SERVICES, "an_encrypted_model_is_fetched_and_names_its_key_in_full"),
    "9 exactly one implementation": Rule(
        SERVICES,
        "fields_out_of_range_are_named a_transformer_needs_a_container_and_an_explainer_one_of_two",
        "empty-predictor two-frameworks model-and-container transformer-empty",
    ),
    "9 the implementation": Rule(
        SERVICES,
        "what_is_wrong_with_a_model_is_named a_custom_predictor_speaks_v1_or_v2 containers_have_names_of_their_own "
        "a_request_up_to_the_limit_is_accepted a_wrong_type_is_named",
        "custom-container-protocol-env no-model-format format-version runtime-named runtime-missing protocol-v1 "
        "protocol-grpc-v2 protocol-unknown resources-bad-quantity resources-request-over-limit env-no-name "
        "args-not-list unknown-field",
    ),
    "9 the extension: concurrency, replicas, logger; and canary, timeout, batcher": Rule(
        SERVICES,
        "fields_out_of_range_are_named fields_in_range_are_accepted all_that_is_wrong_is_said_at_once",
        "min-zero min-over-unset-max concurrency-large canary-10 canary-0 canary-101 canary-negative logger-all "
        "logger-request logger-unknown batcher-negative batcher-string string-replicas",
    ),
    "10 autoscaling": Rule(
        SERVICES,
        "each_autoscaler_has_its_own_metrics memory_targets_of_an_hpa_may_exceed_100",
        "scale-concurrency scale-rps scale-cpu-on-knative scale-cpu-101-hpa scale-rps-hpa scale-memory-hpa-small "
        "deployment-strategy-knative deployment-strategy-standard auto-scaling-keda-no-query keda-scale-metric",
    ),
    "11 canary list": Rule(SERVICES, "canaries_of_standard_mode_must_fit_together canaries_belong_to_standard_mode"),
    "runtime: disabled, containers, workers": Rule(
        RUNTIMES,
        "what_is_wrong_with_a_runtime_is_named a_runtime_over_nodes_stays_one runtimes_over_nodes_name_gpus_that_are_known",
        "rt-cluster rt-no-containers rt-disabled rt-multimodel rt-priority-zero rt-unknown-protocol rt-worker-two-containers",
    ),
    "runtime: one priority for a format": Rule(
        RUNTIMES,
        "what_is_wrong_with_a_runtime_is_named entries_of_a_format_may_leave_their_priority_to_the_first",
        "rt-same-version-twice update-rt-priority-changed",
    ),
    "runtime: no priority that another one has": Rule(
        RUNTIMES,
        "a_priority_that_another_runtime_has_is_refused_with_its_name "
        "runtimes_that_are_never_taken_for_the_same_model_do_not_compete "
        "names_of_formats_compete_whatever_their_case_and_a_disabled_runtime_competes_with_none",
        "rt-same-priority-in-cluster",
    ),
    "graph": Rule(
        OTHERS,
        "what_is_wrong_with_a_graph_is_named graphs_that_lead_somewhere_are_accepted "
        "a_circle_is_shown_in_the_order_in_which_requests_go_round",
        "ig-sequence ig-no-root ig-splitter ig-splitter-90 ig-two-targets ig-bad-name ig-dangling-node ig-switch "
        "ig-ensemble ig-no-steps ig-dependency-unknown",
    ),
    "trained model": Rule(
        OTHERS,
        "what_is_wrong_with_a_trained_model_is_named the_memory_of_a_trained_model_stays",
        "tm-bad-uri tm-bad-memory",
    ),
}
NOT_HERE = {
    "defaults 4: local model cache": "the kinds LocalModelCache and LocalModelNamespaceCache are not known yet",
    "extras: .onnx file names, -gpu tags of legacy keys": "unreachable in KServe: legacy keys become `model` before",
}
"""Rules that there is nothing to test of, each with the reason."""


@pytest.mark.parametrize("name", RULES)
def test_every_rule_has_its_tests(name: str) -> None:
    rule = RULES[name]
    missing = [test for test in rule.tests.split() if not callable(getattr(rule.module, f"test_{test}", None))]
    assert not missing


@pytest.mark.skipif(not GOLDEN.exists(), reason="the reference recordings are not here")
def test_every_recorded_case_belongs_to_one_rule() -> None:
    recorded: dict[str, Any] = yaml.load(GOLDEN.read_text(), Loader=yaml.CSafeLoader)
    listed = [case for rule in RULES.values() for case in rule.cases.split()]
    assert sorted(listed) == sorted(recorded)
