"""`ladle autoscaler simulate` as a user calls it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]
GUIDE = PROJECT / "docs" / "guides" / "simulate.md"


def ladle(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("ladle")), *arguments]
    return subprocess.run(command, cwd=PROJECT, input=stdin, capture_output=True, text=True, timeout=100)


def simulate(tmp_path: Path, manifest: str, *more: str, trace: str = "0,5\n60,0\n") -> subprocess.CompletedProcess[str]:
    (tmp_path / "t.csv").write_text(trace)
    (tmp_path / "m.yaml").write_text(manifest)
    return ladle(
        *("autoscaler", "simulate", "--manifest", str(tmp_path / "m.yaml"), "--traffic", str(tmp_path / "t.csv")),
        *("--service-time", "10ms", *more),
    )


KNATIVE = """
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: hello}
spec: {template: {spec: {containers: [{image: hello}]}}}
"""
TRANSFORMED = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: iris}
spec:
  predictor: {model: {modelFormat: {name: sklearn}, storageUri: "gs://b/m"}}
  transformer: {containers: [{name: t, image: t}]}
"""


def test_the_commands_of_the_guide_work(tmp_path: Path) -> None:
    command = re.search(r"```sh\nladle (.*)\n```", GUIDE.read_text())
    assert command is not None
    picture = tmp_path / "day.png"
    done = ladle(*shlex.split(command[1].replace("day.png", str(picture))))
    assert done.returncode == 0, done.stderr
    assert "replica-hours" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_figures_come_as_json(tmp_path: Path) -> None:
    done = simulate(tmp_path, KNATIVE, "--even", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert (figures["requests"], figures["served"], figures["rejected"]) == (300, 300, 0)


def test_one_of_several_services_is_chosen(tmp_path: Path) -> None:
    done = simulate(tmp_path, TRANSFORMED)
    assert done.returncode == 1
    assert "choose with --service iris-predictor | iris-transformer" in done.stderr
    assert simulate(tmp_path, TRANSFORMED, "--service", "iris-transformer").returncode == 0
    assert "leads to iris-predictor, iris-transformer" in simulate(tmp_path, TRANSFORMED, "--service", "x").stderr


def test_the_cluster_s_own_settings_are_used(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: config-autoscaler}, data: {enable-scale-to-zero: 'false'}}"
    )
    trace = "0,1\n60,0\n300,0\n"
    kept = json.loads(simulate(tmp_path, KNATIVE, "--config", str(config), "--json", trace=trace).stdout)
    shipped = json.loads(simulate(tmp_path, KNATIVE, "--json", trace=trace).stdout)
    assert kept["pods_mean"] > shipped["pods_mean"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--service-time", "10"], "--service-time 10: a duration has a unit, for example 20ms"),
        (["--parallel", "0"], "--parallel = 0, must be at least 1"),
        (["--plot", "out.doc"], "--plot out.doc"),
        (["--config", "nowhere.yaml"], "cannot read nowhere.yaml"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, more: list[str], said: str) -> None:
    done = simulate(tmp_path, KNATIVE, *more)
    assert done.returncode == 1
    assert said in done.stderr.replace("\n", " ")


def test_a_manifest_without_a_service_and_a_bad_trace_are_said(tmp_path: Path) -> None:
    nothing = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}"
    assert "neither an InferenceService nor a Knative Service" in simulate(tmp_path, nothing).stderr
    assert "line 2: 1 columns" in simulate(tmp_path, KNATIVE, trace="0,1\n60\n").stderr
