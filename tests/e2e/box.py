"""A onebox for tests: a home and ports of its own, real processes, kubectl beside it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from controller.base.clock import SystemClock
from ladle.sdk.client import Client
from onebox.home import Home
from onebox.node.records import RecordStore
from onebox.processes import ProcessId, identify, processes_of
from tests.ports import free_ports

ROOT = Path(__file__).parents[2]
LADLE = Path(sys.executable).with_name("ladle")
COMMAND_TIMEOUT_S = 100
"""Longer than any command waits by itself, so that its own words say what failed; shorter than a test may take."""


def kubectl_missing() -> str | None:
    """Why kubectl cannot be used here; None where it can."""
    return None if shutil.which("kubectl") else "kubectl is not installed on this machine"


@dataclass(frozen=True)
class Box:
    """One running onebox."""

    home: Home

    @property
    def client(self) -> Client:
        return Client(self.home.kubeconfig)

    @property
    def gateway(self) -> str:
        address: str = json.loads(self.home.endpoints.read_text())["gateway"]
        return address

    def ladle(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The command line on this home; with `check`, a failure shows what it said."""
        environment = {**os.environ, "LADLE_HOME": str(self.home.root)}
        environment.pop("KUBECONFIG", None)
        result = subprocess.run(
            [str(LADLE), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        assert not check or result.returncode == 0, f"ladle {' '.join(arguments)}: {result.stderr}"
        return result

    def kubectl(
        self, *arguments: str, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """kubectl with this home's kubeconfig; skips the test where the machine has none."""
        if reason := kubectl_missing():
            pytest.skip(reason)
        result = subprocess.run(
            ["kubectl", *arguments],
            env={**os.environ, "KUBECONFIG": str(self.home.kubeconfig), "HOME": str(self.home.root)},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        assert not check or result.returncode == 0, f"kubectl {' '.join(arguments)}: {result.stderr}"
        return result

    def get(self, *arguments: str) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "-o", "json").stdout)
        return parsed

    def component(self, name: str) -> ProcessId | None:
        """The process that is this component now; None while it is down."""
        record = self.home.components / f"{name}.json"
        stored = json.loads(record.read_text()) if record.exists() else None
        process = ProcessId(stored["pid"], stored["start_ticks"]) if stored else None
        return process if process and process.alive() else None

    def containers(self) -> dict[tuple[str, str], ProcessId]:
        """The process of each container that runs, by (pod, container).

        From the node's records: a process that a template forked shows its template's environment, not its own.
        """
        records = (RecordStore(self.home, SystemClock()).load_all()) if (self.home.node / "pods").exists() else []
        running = ((record.name, name, process) for record in records for name, process in record.processes())
        return {(pod, name): process for pod, name, process in running if process.alive()}

    def processes(self) -> list[int]:
        """Every process of this home, whoever started it."""
        return [process.pid for process, _ in processes_of(self.home.root)]


def start_box(root: Path) -> Box:
    """Starts a onebox in `root` on free ports."""
    box = Box(Home(root.resolve()))
    api_port, gateway_port = free_ports(2)
    try:
        box.ladle("up", "--detach", "--api-port", str(api_port), "--gateway-port", str(gateway_port))
    except BaseException:
        stop_box(box)  # What came up of it would run, and start again what fails, until the machine is switched off.
        raise
    return box


def stop_box(box: Box) -> None:
    box.ladle("down")
    left = [pid for pid in box.processes() if identify(pid)]
    assert not left, f"processes left behind: {left}"
