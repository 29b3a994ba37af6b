"""Clients that others wrote, unchanged: tritonclient over HTTP and gRPC, curl, and kserve's where it is installed."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runtimes.processes import Running

ROWS = np.array([[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]], dtype=np.float32)
triton_http = pytest.importorskip("tritonclient.http")
triton_grpc = pytest.importorskip("tritonclient.grpc")


def http_input(*, binary: bool = True, rows: Any = ROWS) -> Any:
    tensor = triton_http.InferInput("input-0", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows, binary_data=binary)
    return tensor


def grpc_input(rows: Any = ROWS) -> Any:
    tensor = triton_grpc.InferInput("input-0", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows)
    return tensor


class TestTritonHttp:
    @pytest.fixture
    def client(self, iris_server: Running) -> Any:
        with triton_http.InferenceServerClient(iris_server.http, concurrency=4) as client:
            yield client

    @pytest.mark.parametrize("binary", [True, False])
    @pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
    @pytest.mark.parametrize("wanted", [None, True, False])
    def test_inference_in_every_form(self, client: Any, binary: bool, coding: str | None, wanted: bool | None) -> None:
        outputs = None if wanted is None else [triton_http.InferRequestedOutput("output-0", binary_data=wanted)]
        answer = client.infer(
            "iris",
            [http_input(binary=binary)],
            outputs=outputs,
            request_id="7",
            request_compression_algorithm=coding,
            response_compression_algorithm=coding,
        )
        assert answer.as_numpy("output-0").tolist() == [1, 1]
        assert answer.get_response()["id"] == "7"

    def test_many_at_once(self, client: Any) -> None:
        pending = [client.async_infer("iris", [http_input()]) for _ in range(20)]
        assert {tuple(one.get_result().as_numpy("output-0").tolist()) for one in pending} == {(1, 1)}

    def test_status_metadata_configuration_and_statistics(self, client: Any) -> None:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("iris")
        assert client.get_server_metadata()["name"] == "ladle"
        assert client.get_model_metadata("iris")["inputs"][0]["shape"] == [-1, 4]
        assert client.get_model_config("iris")["input"][0]["data_type"] == "TYPE_FP64"
        client.infer("iris", [http_input()])
        (statistics,) = client.get_inference_statistics("iris")["model_stats"]
        assert statistics["inference_stats"]["success"]["count"] >= 1
        assert client.get_inference_statistics()["model_stats"][0]["name"] == "iris"

    def test_the_repository(self, client: Any) -> None:
        assert client.get_model_repository_index() == [{"name": "iris", "version": "", "state": "READY", "reason": ""}]
        client.unload_model("iris")
        assert not client.is_model_ready("iris")
        assert client.get_model_repository_index()[0]["state"] == "UNAVAILABLE"
        client.load_model("iris")
        assert client.is_model_ready("iris")

    def test_errors_arrive_as_its_exceptions(self, client: Any) -> None:
        with pytest.raises(triton_http.InferenceServerException, match="Model with name none does not exist"):
            client.infer("none", [http_input()])
        with pytest.raises(triton_http.InferenceServerException, match=r"expected \[rows, 4\]"):
            client.infer("iris", [http_input(rows=ROWS[:, :2].copy())])

    def test_an_asyncio_client(self, iris_server: Running) -> None:
        aio = pytest.importorskip("tritonclient.http.aio")

        async def ask() -> Any:
            async with aio.InferenceServerClient(iris_server.http) as client:
                return await client.infer("iris", [http_input()])

        assert asyncio.run(ask()).as_numpy("output-0").tolist() == [1, 1]


class TestTritonGrpc:
    @pytest.fixture
    def client(self, iris_server: Running) -> Any:
        with triton_grpc.InferenceServerClient(iris_server.grpc) as client:
            yield client

    @pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
    def test_inference(self, client: Any, coding: str | None) -> None:
        answer = client.infer("iris", [grpc_input()], request_id="7", compression_algorithm=coding)
        assert (answer.as_numpy("output-0").tolist(), answer.get_response().id) == ([1, 1], "7")

    def test_an_asynchronous_call(self, client: Any) -> None:
        from queue import Queue

        answers: Queue[Any] = Queue()
        client.async_infer("iris", [grpc_input()], callback=lambda result, error: answers.put((result, error)))
        result, error = answers.get(timeout=20)
        assert error is None
        assert result.as_numpy("output-0").tolist() == [1, 1]

    def test_status_metadata_configuration_statistics_and_repository(self, client: Any) -> None:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("iris")
        assert client.get_server_metadata().name == "ladle"
        assert list(client.get_model_metadata("iris").inputs[0].shape) == [-1, 4]
        assert client.get_model_config("iris").config.input[0].data_type == 12
        client.infer("iris", [grpc_input()])
        assert client.get_inference_statistics("iris").model_stats[0].inference_stats.success.count >= 1
        assert client.get_model_repository_index().models[0].state == "READY"
        client.unload_model("iris")
        assert not client.is_model_ready("iris")
        client.load_model("iris")
        assert client.is_model_ready("iris")

    def test_errors_arrive_as_its_exceptions(self, client: Any) -> None:
        with pytest.raises(triton_grpc.InferenceServerException, match="NOT_FOUND"):
            client.infer("none", [grpc_input()])


class TestCurl:
    def curl(self, *arguments: str) -> Any:
        ended = subprocess.run(
            ["curl", "-sS", "--fail-with-body", *arguments], capture_output=True, text=True, timeout=20
        )
        assert ended.returncode == 0, ended
        return json.loads(ended.stdout)

    def test_a_prediction_without_a_content_type(self, iris_server: Running) -> None:
        body = json.dumps({"instances": ROWS.tolist()})
        assert self.curl(f"http://{iris_server.http}/v1/models/iris:predict", "-d", body) == {"predictions": [1, 1]}

    def test_an_inference(self, iris_server: Running) -> None:
        tensor = {"name": "x", "shape": [2, 4], "datatype": "FP32", "data": ROWS.tolist()}
        answer = self.curl(f"http://{iris_server.http}/v2/models/iris/infer", "-d", json.dumps({"inputs": [tensor]}))
        assert answer["outputs"][0]["data"] == [1, 1]

    def test_a_body_that_waits_for_100_continue(self, iris_server: Running, tmp_path: Path) -> None:
        (tmp_path / "rows.json").write_text(json.dumps({"instances": ROWS.tolist() * 5000}))
        url = f"http://{iris_server.http}/v1/models/iris:predict"
        answer = self.curl(url, "-H", "Expect: 100-continue", "-d", f"@{tmp_path}/rows.json")
        assert len(answer["predictions"]) == 10_000


class TestKserve:
    async def test_its_rest_client(self, iris_server: Running) -> None:
        kserve = pytest.importorskip("kserve")
        client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2"))
        infer_input = kserve.InferInput("input-0", [2, 4], "FP32")
        infer_input.set_data_from_numpy(ROWS, binary_data=True)
        request = kserve.InferRequest("iris", [infer_input])
        answer = await client.infer(f"http://{iris_server.http}", request, model_name="iris")
        assert answer.outputs[0].as_numpy().tolist() == [1, 1]

    async def test_its_grpc_client(self, iris_server: Running) -> None:
        kserve = pytest.importorskip("kserve")
        infer_input = kserve.InferInput("input-0", [2, 4], "FP32")
        infer_input.set_data_from_numpy(ROWS, binary_data=True)
        client = kserve.InferenceGRPCClient(iris_server.grpc)
        answer = await client.infer(kserve.InferRequest("iris", [infer_input]))
        assert answer.outputs[0].as_numpy().tolist() == [1, 1]
