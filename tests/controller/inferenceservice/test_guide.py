"""The commands of docs/guides/from-kserve.md, and what it says of runtimes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

from tests.controller.inferenceservice.builders import ROOT, manifest, runtime
from tests.controller.inferenceservice.test_catalogue import KSERVE_NAMES, on_one_machine

GUIDE = (ROOT / "docs/guides/from-kserve.md").read_text()
COMMANDS = [
    line.partition("  #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.S)
    for line in block.splitlines()
]
DEADLINE_S = 60.0


def run(command: str, directory: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        command.split(),
        cwd=directory,
        env={**os.environ, "PATH": path, "LADLE_HOME": str(directory / "home")},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def test_the_commands_without_a_cluster_answer_as_they_say() -> None:
    validated, rendered, explained = (run(line, ROOT) for line in COMMANDS if "examples/iris" in line)
    assert "accepted InferenceService/sklearn-iris" in validated.stdout
    kinds = [item["kind"] for item in yaml.safe_load_all(rendered.stdout)]
    assert kinds == ["Service", "Service", "VirtualService", "InferenceService"]
    assert "kserve-sklearnserver" in explained.stdout
    assert [validated.returncode, rendered.returncode, explained.returncode] == [0, 0, 0]


def test_what_a_cluster_has_counts(tmp_path: Path) -> None:
    command, judging = (line for line in COMMANDS if "--with cluster.yaml" in line)
    exported = {"apiVersion": "v1", "kind": "List", "items": [runtime("own").to_json()]}
    settings = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "inferenceservice-config", "namespace": "kserve"},
        "data": {"storageInitializer": '{"image": "example/init:1"}'},
    }
    service = manifest()
    del service["metadata"]["namespace"]
    for name, content in (("cluster", exported), ("settings", settings), ("my-service", service)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    rendered = run(command, tmp_path)
    assert rendered.returncode == 0, rendered.stderr
    knative = next(
        item for item in yaml.safe_load_all(rendered.stdout) if item["apiVersion"].startswith("serving.knative")
    )
    pod = knative["spec"]["template"]["spec"]
    assert (pod["containers"][0]["image"], pod["initContainers"][0]["image"]) == ("example/own:1", "example/init:1")
    assert knative["metadata"]["namespace"] == "models"
    assert run(judging, tmp_path).stdout == "accepted InferenceService/iris\n"


def test_the_table_of_runtimes_names_what_serves_and_what_does_not() -> None:
    rows = [line.split("|") for line in GUIDE.splitlines() if line.startswith("| kserve-")]
    said: dict[str, str] = {}
    for _, names, answer, _ in rows:
        for name in names.split(","):
            short = re.sub(r"\(.*\)", "", name).strip().removeprefix("kserve").removeprefix("-")
            said[f"kserve-{short}"] = answer.strip()
    assert set(said) == KSERVE_NAMES - {"kserve-huggingfaceserver-multinode"}
    for name, answer in said.items():
        formats = {entry.name for entry in on_one_machine()[name].spec.supportedModelFormats}
        serves = {item for item in formats if not on_one_machine()[name].missing_for(item)}
        assert (not serves) == answer.startswith("none"), name
