"""An unchanged kserve.Model transformer in front of a predictor, over each protocol that KServe's transformers speak."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
import pytest

from tests.runtimes.processes import KSERVE_PYTHON, Running, needs_kserve, serving

triton_http = pytest.importorskip("tritonclient.http")
pytestmark = needs_kserve
SCRIPT = Path(__file__).parent / "kserve_scripts" / "transformer.py"
PYSERVER = [KSERVE_PYTHON, "-m", "runtimes.pyserver"]
TENTHS = [[68.0, 28.0, 48.0, 14.0], [60.0, 34.0, 45.0, 16.0]]
KINDS = ["kind 1", "kind 1"]
PROTOCOLS = ("v1", "v2", "grpc-v2")


@pytest.fixture(scope="module")
def transformers(iris_server: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Running]]:
    """One for each protocol; the V2 one is found as a class in model.py. Started at once: each imports kserve for seconds."""
    directory = tmp_path_factory.mktemp("transformers")
    copyfile(SCRIPT, directory / "model.py")
    found = ["--model_dir", str(directory)]
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(len(PROTOCOLS)) as pool:
        running = {}
        for protocol in PROTOCOLS:
            host = iris_server.grpc if protocol == "grpc-v2" else iris_server.http
            what = found if protocol == "v2" else ["--kserve", str(SCRIPT)]
            flags = ["--model_name=iris", f"--predictor_host={host}", f"--predictor_protocol={protocol}"]
            server = serving([*PYSERVER, *what, *flags], directory / protocol)
            running[protocol] = pool.submit(stack.enter_context, server)
        yield {protocol: future.result() for protocol, future in running.items()}


def post(url: str, body: Any) -> tuple[int, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_v1_in(transformers: dict[str, Running], protocol: str) -> None:
    url = f"{transformers[protocol].url}/v1/models/iris:predict"
    assert post(url, {"instances": TENTHS}) == (200, {"predictions": KINDS})


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_v2_in(transformers: dict[str, Running], protocol: str) -> None:
    rows = np.array(TENTHS)
    tensor = triton_http.InferInput("rows", list(rows.shape), "FP64")
    tensor.set_data_from_numpy(rows)
    with triton_http.InferenceServerClient(transformers[protocol].http) as client:
        answer = client.infer("iris", [tensor])
    assert [text.decode() for text in answer.as_numpy("output-0")] == KINDS


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_refusal_of_the_predictor_keeps_its_code(transformers: dict[str, Running], protocol: str) -> None:
    status, body = post(f"{transformers[protocol].url}/v1/models/iris:predict", {"instances": [[1.0, 2.0]]})
    assert status == 400
    assert "expected [rows, 4]" in body["error"]


def test_a_predictor_that_is_gone_is_a_503(tmp_path: Path) -> None:
    flags = ["--model_name=iris", "--predictor_host=127.0.0.1:9", "--predictor_protocol=v1"]
    with serving([*PYSERVER, "--kserve", str(SCRIPT), *flags], tmp_path) as server:
        status, body = post(f"{server.url}/v1/models/iris:predict", {"instances": TENTHS})
    assert status == 503
    assert "the predictor cannot be reached: http://127.0.0.1:9/v1/models/iris:predict" in body["error"]
