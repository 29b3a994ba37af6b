"""The guide's commands, as they stand but for the ports; and with them a transformer and a predictor as real processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import joblib
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from tests.ports import free_port
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guides" / "transformers.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL)
DEADLINE_S = 60.0
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "LADLE_HOST": "127.0.0.1"}


@pytest.mark.parametrize("command", [block for block in BLOCKS if "pytest" in block])
def test_the_examples_are_tested_as_the_guide_says(command: str) -> None:
    ended = subprocess.run(
        [*command.split(), "-p", "no:cacheprovider"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert ended.returncode == 0, ended.stdout
    assert ended.stdout.startswith("."), ended.stdout


def test_the_example_runs_before_a_model(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed on this machine")
    features, labels = load_digits(return_X_y=True)
    (tmp_path / "models" / "digits").mkdir(parents=True)
    model = LogisticRegression(max_iter=200).fit(features, labels)
    joblib.dump(model, tmp_path / "models" / "digits" / "model.joblib")
    shutil.copytree(ROOT / "examples" / "transformer", tmp_path / "examples" / "transformer")
    (tmp_path / "pixels.json").write_text(json.dumps({"instances": (features[:5] * 2).tolist()}))
    (block,) = (block for block in BLOCKS if "curl" in block)
    block = block.replace("8085", str(free_port())).replace("8080", str(free_port()))
    servers, _, curl = block.rpartition("&\n")
    with (tmp_path / "log").open("wb") as log:
        shell = subprocess.Popen(
            ["bash", "-c", f"{servers}& wait"], cwd=tmp_path, env=environment(), stderr=log, start_new_session=True
        )
    try:

        def answer() -> list[str] | None:
            ended = subprocess.run(
                ["bash", "-c", curl], cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S
            )
            found: list[str] | None = json.loads(ended.stdout).get("predictions") if ended.returncode == 0 else None
            return found

        found = wait_for("an answer", answer, timeout_s=DEADLINE_S)
    finally:
        os.killpg(shell.pid, signal.SIGTERM)
        shell.wait(DEADLINE_S)
    assert found == [WORDS[label] for label in model.predict(features[:5])]


@pytest.mark.parametrize("flag", ["width", "mode", "layout", "scale", "dtype", "top_k", "pixels_max", "batch_max"])
def test_the_guide_names_the_defaults_of_flags(flag: str) -> None:
    from transformer.image.settings import ImageSettings

    value = getattr(ImageSettings(), flag)
    row = next(line for line in GUIDE.splitlines() if line.startswith("|") and f"`--{flag}`" in line)
    shown = {1 / 255: "1/255"}.get(value, str(value))
    assert shown in row
