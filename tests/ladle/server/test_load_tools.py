"""Load tools as they come: wrk and h2load against real servers, no errors and every answer a 2xx."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ladle.server.workers.fleet import FleetProcess

V1 = json.dumps({"instances": [[1, 2, 3, 4]]})
V2 = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]})
BODIES = [("/v1/models/m:predict", V1), ("/v2/models/m/infer", V2)]
SERVER = """
import os, sys
from ladle import Model, serve
from ladle.server.options import ServerOptions

class Sum(Model):
    thread_safe = True

    def predict(self, request):
        return request.as_array().sum(axis=-1)

sys.exit(serve(Sum("m"), options=ServerOptions.parse(sys.argv[1:], os.environ)))
"""
TOOL_DEADLINE_S = 60


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two workers"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetProcess]:
    process = FleetProcess(tmp_path_factory.mktemp("server"), request.param, script=SERVER)
    process.ready()
    yield process
    process.close()


def run(tool: str, *arguments: str) -> str:
    path = shutil.which(tool)
    if path is None:
        pytest.skip(f"{tool} is not installed; .ci/test-tools does that")
    ended = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=TOOL_DEADLINE_S)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize(("path", "body"), BODIES, ids=["V1", "V2"])
def test_wrk(server: FleetProcess, tmp_path: Path, path: str, body: str) -> None:
    script = tmp_path / "post.lua"
    script.write_text(
        f"wrk.method = 'POST'\nwrk.body = [==[{body}]==]\nwrk.headers['Content-Type'] = 'application/json'\n"
        # Printed by the last of wrk's steps: what its summary leaves out where it is zero.
        "function done(summary)\n"
        "  local e = summary.errors\n"
        "  print(string.format('COUNTED %d %d', summary.requests, e.connect + e.read + e.write + e.status + e.timeout))\n"
        "end\n"
    )
    printed = run(
        "wrk", "-t1", "-c8", "-d1s", "--timeout", "30s", "-s", str(script), f"http://127.0.0.1:{server.port}{path}"
    )
    counted = re.search(r"COUNTED (\d+) (\d+)", printed)
    assert counted is not None, printed
    requests, errors = map(int, counted.groups())
    assert requests > 0
    assert errors == 0, printed


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize("streams", ["1", "8"])
@pytest.mark.parametrize(("path", "body"), BODIES, ids=["V1", "V2"])
def test_h2load(server: FleetProcess, tmp_path: Path, path: str, body: str, streams: str, version: str) -> None:
    """`streams`: pipelined requests over HTTP/1.1, concurrent ones over HTTP/2, which is h2load's own choice."""
    data = tmp_path / "body"
    data.write_text(body)
    options = ["-n400", "-c8", f"-m{streams}", "-d", str(data), "-H", "content-type: application/json"]
    if version == "HTTP/1.1":
        options.append("--h1")
    printed = run("h2load", *options, f"http://127.0.0.1:{server.port}{path}")
    assert "400 total, 400 started, 400 done, 400 succeeded, 0 failed, 0 errored, 0 timeout" in printed, printed
    assert "status codes: 400 2xx, 0 3xx, 0 4xx, 0 5xx" in printed, printed
