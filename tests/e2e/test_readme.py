"""The README's commands, run as they stand there, in a home of their own and on free ports."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from onebox.home import Home
from onebox.processes import processes_of
from tests.e2e.box import ROOT, kubectl_missing
from tests.ports import free_ports

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

NOT_HERE = {"make test"}
"""`make test` is what runs this test."""


def commands() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    lines = (line.partition("  #")[0].strip() for block in blocks for line in block.splitlines())
    return [line for line in lines if line and line not in NOT_HERE]


def test_every_command_of_the_readme_works(tmp_path: Path) -> None:
    if reason := kubectl_missing():
        pytest.skip(reason)
    if not (ROOT / ".venv/bin/ladle").exists() or shutil.which("make") is None:
        pytest.skip(
            "the tests do not run from the repository's own environment, .venv, which the README's commands use"
        )
    api_port, gateway_port = free_ports(2)
    environment = {**os.environ, "HOME": str(tmp_path), "UP": f"--api-port {api_port} --gateway-port {gateway_port}"}
    for name in ("KUBECONFIG", "LADLE_HOME", "MAKEFLAGS", "MAKELEVEL"):
        environment.pop(name, None)
    script = "set -ex\n" + "\n".join(commands())
    assert "make down" in script
    result = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    if result.returncode:
        subprocess.run(["make", "down"], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count('{"predictions": [1, 1]}') == 1
    assert result.stdout.count('{"predictions":[1,1]}') == 2
    assert not list(processes_of(Home(tmp_path / ".ladle").root))
