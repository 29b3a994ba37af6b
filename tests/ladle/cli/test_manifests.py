"""`ladle render`, `validate` and `explain-runtime` as a newcomer meets them: what is said where, and the exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from ladle.cli.main import app

SERVICE = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: iris}
spec:
  predictor:
    model: {modelFormat: {name: sklearn}, storageUri: "gs://a/b"}
"""
RUNTIME = """
apiVersion: serving.kserve.io/v1alpha1
kind: ClusterServingRuntime
metadata: {name: NAME}
spec:
  protocolVersions: [v1]
  supportedModelFormats: [{name: sklearn, version: "1", autoSelect: true, priority: 1}]
  containers: [{name: kserve-container, image: "example/mine:1"}]
"""
GRAPH = """
apiVersion: serving.kserve.io/v1alpha1
kind: InferenceGraph
metadata: {name: graph}
spec: {nodes: {root: {routerType: Sequence, steps: [{serviceName: iris}]}}}
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def service(tmp_path: Path) -> Path:
    return write(tmp_path / "service.yaml", SERVICE)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_refusal_names_the_object_and_the_field(tmp_path: Path) -> None:
    wrong = write(tmp_path / "wrong.yaml", SERVICE + "    timeout: -1\n")
    for verb in ("render", "validate", "explain-runtime"):
        shown = run(verb, "-f", str(wrong))
        assert shown.exit_code == 1
        assert "InferenceService/iris: spec.predictor.timeout: Invalid value: -1" in shown.output


def test_a_service_that_cannot_be_made_fails_unless_its_status_is_asked_for(tmp_path: Path) -> None:
    fortran = write(tmp_path / "fortran.yaml", SERVICE.replace("sklearn", "fortran"))
    shown = run("render", "-f", str(fortran))
    assert shown.exit_code == 1
    assert "InferenceService/iris" in shown.stderr
    asked = run("render", "--status", "-f", str(fortran))
    assert asked.exit_code == 0
    (item,) = yaml.safe_load_all(asked.stdout)
    ready = next(found for found in item["status"]["conditions"] if found["type"] == "PredictorReady")
    assert (ready["status"], ready["reason"]) == ("False", "NoSupportingRuntime")


def test_where_nothing_is_made_somebody_says_so(tmp_path: Path) -> None:
    graph = write(tmp_path / "graph.yaml", GRAPH)
    shown = run("render", "-f", str(graph))
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert "nothing is made of these objects (InferenceGraph)" in shown.stderr
    asked = yaml.safe_load(run("render", "--status", "-f", str(graph)).stdout)
    assert asked["status"]["conditions"][0]["reason"] == "NotSupported"


def test_what_exists_counts_for_admission_too(tmp_path: Path) -> None:
    mine = write(tmp_path / "mine.yaml", RUNTIME.replace("NAME", "mine"))
    other = write(tmp_path / "other.yaml", RUNTIME.replace("NAME", "other"))
    alone = run("validate", "-f", str(mine), "--with", str(mine))
    assert (alone.exit_code, alone.stdout) == (0, "accepted ClusterServingRuntime/mine\n")
    beside = run("validate", "-f", str(mine), "--with", str(other))
    assert beside.exit_code == 1
    assert "ClusterServingRuntime other has the same priority" in beside.stdout
    both = run("validate", "-f", str(mine), "-f", str(other), "--with", str(mine))
    assert both.stdout.splitlines()[0] == "accepted ClusterServingRuntime/mine"
    assert both.stdout.splitlines()[1].startswith("refused ClusterServingRuntime/other")


def test_the_stored_object_may_come_as_old_or_with_all_that_exists(tmp_path: Path, service: Path) -> None:
    standard = SERVICE.replace(
        "{name: iris}", "{name: iris, annotations: {serving.kserve.io/deploymentMode: Standard}}"
    )
    change = write(tmp_path / "change.yaml", standard)
    for flag in ("--old", "--with"):
        shown = run("validate", "-f", str(change), flag, str(service))
        assert shown.exit_code == 1
        assert "cannot be changed from Knative to Standard" in shown.stdout
    assert run("validate", "-f", str(change)).exit_code == 0


def test_an_old_object_that_nothing_would_replace_is_a_mistake(tmp_path: Path, service: Path) -> None:
    other = write(tmp_path / "other.yaml", SERVICE.replace("iris", "other"))
    shown = run("validate", "-f", str(service), "--old", str(other))
    assert shown.exit_code == 1
    assert "InferenceService/other, which none of these would replace: InferenceService/iris" in shown.stderr
    two = write(tmp_path / "two.yaml", f"{SERVICE}---{SERVICE}")
    assert "it holds 2" in run("validate", "-f", str(service), "--old", str(two)).stderr


def test_settings_that_cannot_be_read_are_named(tmp_path: Path, service: Path) -> None:
    settings = write(
        tmp_path / "settings.yaml",
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: inferenceservice-config, namespace: kserve}, data: {deploy: '{'}}",
    )
    for verb in ("render", "validate"):
        shown = run(verb, "-f", str(service), "--with", str(settings))
        assert shown.exit_code == 1
        assert "ConfigMap inferenceservice-config, key deploy" in shown.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: InferenceService\nmetadata: {}\n", "apiVersion: Required value"),
        ("apiVersion: v1\nkind: InferenceService\nmetadata: 3\n", "metadata: Required value"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {}\n", "metadata.name: Required value"),
        (SERVICE.split("spec:")[0] + "spec: 3\n", "spec: Invalid value"),
        (SERVICE.split("spec:")[0] + "spec: {predictor: [1]}\n", "spec.predictor: Invalid value"),
        (SERVICE.split("spec:")[0] + "spec: {predictor: {model: x}}\n", "spec.predictor.model: Invalid value"),
    ],
)
def test_what_is_no_object_is_refused_with_the_field(tmp_path: Path, text: str, words: str) -> None:
    broken = write(tmp_path / "broken.yaml", text)
    judged = run("validate", "-f", str(broken))
    assert judged.exit_code == 1
    assert words in judged.stdout
    made = run("render", "-f", str(broken))
    assert made.exit_code == 1
    assert words in made.stderr


def test_a_folder_is_read_as_kubectl_reads_it(tmp_path: Path, service: Path) -> None:
    write(tmp_path / "notes.txt", "no manifest")
    write(tmp_path / "graph.yml", GRAPH)
    shown = run("validate", "-f", str(tmp_path))
    assert shown.stdout.split() == ["accepted", "InferenceGraph/graph", "accepted", "InferenceService/iris"]
    assert service.exists()
