"""The command line as a user meets it: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

LADLE = Path(sys.executable).with_name("ladle")


def ladle(
    *arguments: str, home: Path, stdin: str = "", environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "LADLE_HOME": str(home), "HOME": str(home), **(environment or {})}
    if not environment:
        variables.pop("KUBECONFIG", None)
    return subprocess.run(
        [str(LADLE), *arguments], env=variables, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )


def test_help_lists_the_verbs(tmp_path: Path) -> None:
    shown = ladle("--help", home=tmp_path)
    assert shown.returncode == 0
    for verb in ("up", "down", "status", "render", "validate", "predict", "logs"):
        assert f" {verb} " in shown.stdout


def test_help_imports_no_component(tmp_path: Path) -> None:
    """The bare package has no aiohttp and no pydantic; help must work there, and at once."""
    code = (
        "import sys, ladle.cli.main; "
        "print([m for m in ('aiohttp', 'pydantic', 'controller', 'onebox', 'numpy', 'kubernetes') if m in sys.modules])"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert seen.stdout.strip() == "[]"


def test_status_of_a_home_that_was_never_started_says_how_to_start(tmp_path: Path) -> None:
    shown = ladle("status", home=tmp_path)
    assert shown.returncode == 1
    assert "ladle up" in shown.stderr


def test_down_where_nothing_runs_is_no_error(tmp_path: Path) -> None:
    shown = ladle("down", home=tmp_path)
    assert shown.returncode == 0
    assert "nothing runs" in shown.stderr


def test_predict_without_a_onebox_says_what_to_do(tmp_path: Path) -> None:
    shown = ladle("predict", "x", "-d", "{}", home=tmp_path)
    assert shown.returncode == 1
    assert "ladle up" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_predict_refuses_what_is_no_json(tmp_path: Path) -> None:
    shown = ladle("predict", "x", "-d", "not json", home=tmp_path)
    assert shown.returncode == 1
    assert "the request is no JSON" in shown.stderr


def test_predict_names_a_file_that_is_missing(tmp_path: Path) -> None:
    shown = ladle("predict", "x", "-d", "@nowhere.json", home=tmp_path)
    assert shown.returncode == 1
    assert "nowhere.json" in shown.stderr


@pytest.mark.parametrize("verb", ["render", "validate"])
def test_a_manifest_without_a_kind_is_named(verb: str, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("metadata: {name: x}\n")
    shown = ladle(verb, "-f", str(tmp_path / "m.yaml"), home=tmp_path)
    assert shown.returncode == 1
    assert "m.yaml" in shown.stderr
    assert "kind" in shown.stderr


@pytest.mark.parametrize("verb", ["render", "validate"])
def test_a_manifest_without_objects_is_named(verb: str, tmp_path: Path) -> None:
    manifest = tmp_path / "empty.yaml"
    manifest.write_text("# nothing\n---\n")
    shown = ladle(verb, "-f", str(manifest), home=tmp_path)
    assert shown.returncode == 1
    assert "empty.yaml: no object in it" in shown.stderr


def test_a_manifest_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("a: [")
    shown = ladle("validate", "-f", str(tmp_path / "m.yaml"), home=tmp_path)
    assert shown.returncode == 1
    assert "m.yaml is no YAML" in shown.stderr


def test_replay_prints_the_traces_with_decided_ticks(tmp_path: Path) -> None:
    recorded = Path(__file__).parents[3] / "../shared/golden/kpa/traces.json"
    if not recorded.exists():
        pytest.skip("the recorded traces are not on this machine")
    trace = json.loads(recorded.read_text())[0]
    (tmp_path / "trace.json").write_text(json.dumps([trace]))
    shown = ladle("autoscaler", "replay", str(tmp_path / "trace.json"), home=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert len(json.loads(shown.stdout)[0]["ticks"]) == len(trace["ticks"])


def test_explain_runtime_shows_a_table_or_json_and_fails_where_none_fits(tmp_path: Path) -> None:
    manifest = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "iris"},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "protocolVersion": "v2"}}},
    }
    (tmp_path / "m.json").write_text(json.dumps(manifest))
    shown = ladle("explain-runtime", "-f", str(tmp_path / "m.json"), home=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "gets ClusterServingRuntime kserve-mlserver, protocol v2: priority 2" in shown.stdout
    (line,) = (line for line in shown.stdout.splitlines() if line.startswith("kserve-sklearnserver"))
    assert "priority 1 for sklearn, behind kserve-mlserver" in line
    told = json.loads(ladle("explain-runtime", "-f", str(tmp_path / "m.json"), "--json", home=tmp_path).stdout)
    assert told[0]["chosen"]["name"] == "kserve-mlserver"
    manifest["spec"]["predictor"]["model"]["modelFormat"]["name"] = "prophet"  # type: ignore[index]
    (tmp_path / "m.json").write_text(json.dumps(manifest))
    shown = ladle("explain-runtime", "-f", str(tmp_path / "m.json"), home=tmp_path)
    assert shown.returncode == 1
    assert shown.stdout.startswith("default/iris: NoSupportingRuntime") or "no runtime serves" in shown.stdout
