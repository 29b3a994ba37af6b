"""Clients that others wrote, unchanged: tritonclient over HTTP and gRPC, curl, and kserve's where it is installed."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runtimes.processes import KSERVE_PYTHON, Running, needs_kserve, serving

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


ECHO = """
from ladle import Model

class Echo(Model):
    def predict(self, request):
        return list(request.inputs)

    def explain(self, request):
        return {"explanations": request.instances}
"""


@pytest.fixture(scope="module")
def echo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Answers what it is asked."""
    directory = tmp_path_factory.mktemp("echo")
    (directory / "model.py").write_text(ECHO)
    with serving(["-m", "runtimes.pyserver", "--model_name=echo", f"--model_dir={directory}"], directory) as running:
        yield running


def datatypes() -> dict[str, np.ndarray]:
    values = {
        "BOOL": np.array([True, False]),
        **{f"{kind}{8 * size}": np.array([0, 1], f"{code}{size}") for kind, code in INTEGERS for size in (1, 2, 4, 8)},
        "FP16": np.array([1.5, -2.0], "f2"),
        "FP32": np.array([1.5, -2.0], "f4"),
        "FP64": np.array([1.5, -2.0], "f8"),
        "BYTES": np.array([b"text", b"\xff\x00", b""], object),
    }
    values["UINT64"][0], values["INT64"][0] = 2**64 - 1, -(2**63)
    return values


INTEGERS = (("INT", "i"), ("UINT", "u"))
TRITON = (triton_http, triton_grpc)
DATATYPES = datatypes()


@pytest.mark.parametrize("library", TRITON, ids=["http", "grpc"])
class TestTritonEitherWay:
    """What holds over HTTP and gRPC alike."""

    @pytest.fixture
    def client(self, library: Any, echo_server: Running) -> Iterator[Any]:
        address = echo_server.grpc if library is triton_grpc else echo_server.http
        with library.InferenceServerClient(address) as client:
            yield client

    def echoed(self, library: Any, client: Any, values: np.ndarray, datatype: str) -> Any:
        tensor = library.InferInput("x", list(values.shape), datatype)
        tensor.set_data_from_numpy(values)
        return client.infer("echo", [tensor]).as_numpy("x")

    @pytest.mark.parametrize("datatype", DATATYPES)
    def test_every_datatype_comes_back(self, library: Any, client: Any, datatype: str) -> None:
        found = self.echoed(library, client, DATATYPES[datatype], datatype)
        assert (found.dtype, found.tolist()) == (DATATYPES[datatype].dtype, DATATYPES[datatype].tolist())

    def test_brain_floats_come_back(self, library: Any, client: Any) -> None:
        ml_dtypes = pytest.importorskip("ml_dtypes")
        found = self.echoed(library, client, np.array([1.5, -3e38, 0.0], ml_dtypes.bfloat16), "BF16")
        assert found.tolist() == np.array([1.5, -3e38, 0.0], ml_dtypes.bfloat16).tolist()

    @pytest.mark.parametrize("shape", [(0,), (1, 0, 3), (), (2, 1, 1, 1)])
    def test_every_shape_comes_back(self, library: Any, client: Any, shape: tuple[int, ...]) -> None:
        assert self.echoed(library, client, np.zeros(shape, "f4"), "FP32").shape == shape

    def test_sequences_and_priorities_do_no_harm(self, library: Any, client: Any) -> None:
        tensor = library.InferInput("x", [1], "FP32")
        tensor.set_data_from_numpy(np.ones(1, "f4"))
        extras = {"sequence_id": 3, "sequence_start": True, "priority": 1, "timeout": 10_000_000}
        answer = client.infer("echo", [tensor], parameters={"a": "b"}, headers={"x-a": "b"}, **extras)
        assert answer.as_numpy("x").tolist() == [1.0]

    @pytest.mark.parametrize(
        "method",
        ["get_system_shared_memory_status", "get_cuda_shared_memory_status", "unregister_system_shared_memory"],
    )
    def test_shared_memory_is_refused_with_advice(self, library: Any, client: Any, method: str) -> None:
        with pytest.raises(triton_http.InferenceServerException, match="send tensors in the message itself"):
            getattr(client, method)()

    def test_a_tensor_in_shared_memory_is_refused_with_advice(self, library: Any, client: Any) -> None:
        tensor, output = library.InferInput("x", [2], "FP32"), library.InferRequestedOutput("x")
        tensor.set_shared_memory("region", 8)
        with pytest.raises(triton_http.InferenceServerException, match="input 'x': shared memory is not supported"):
            client.infer("echo", [tensor])
        tensor.set_data_from_numpy(np.zeros(2, "f4"))
        output.set_shared_memory("region", 8)
        with pytest.raises(triton_http.InferenceServerException, match="output 'x': shared memory is not supported"):
            client.infer("echo", [tensor], outputs=[output])

    def test_settings_of_tritons_own_are_refused(self, library: Any, client: Any) -> None:
        for method in (client.get_trace_settings, client.get_log_settings):
            with pytest.raises(triton_http.InferenceServerException, match="is not supported"):
                method()

    def test_versions_there_are_none(self, library: Any, client: Any) -> None:
        with pytest.raises(triton_http.InferenceServerException, match="version"):
            client.get_model_metadata("echo", "1")

    def test_a_load_with_a_configuration_of_its_own_is_refused(self, library: Any, client: Any) -> None:
        with pytest.raises(triton_http.InferenceServerException, match="loading takes no parameters"):
            client.load_model("echo", config='{"max_batch_size": 8}')
        assert client.is_model_ready("echo")

    def test_an_unknown_model_is_named(self, library: Any, client: Any) -> None:
        for method in (client.load_model, client.unload_model, client.get_model_config, client.get_model_metadata):
            with pytest.raises(triton_http.InferenceServerException, match="Model with name none does not exist"):
                method("none")


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

    def test_an_asyncio_client_manages_models(self, echo_server: Running) -> None:
        aio = pytest.importorskip("tritonclient.http.aio")

        async def manage() -> list[Any]:
            async with aio.InferenceServerClient(echo_server.http) as client:
                await client.unload_model("echo")
                unloaded = await client.get_model_repository_index()
                await client.load_model("echo")
                config, statistics = (
                    await client.get_model_config("echo"),
                    await client.get_inference_statistics("echo"),
                )
                return [unloaded[0]["state"], config["name"], statistics["model_stats"][0]["name"]]

        assert asyncio.run(manage()) == ["UNAVAILABLE", "echo", "echo"]


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

    def test_an_asyncio_client(self, iris_server: Running) -> None:
        aio = pytest.importorskip("tritonclient.grpc.aio")

        async def ask() -> Any:
            async with aio.InferenceServerClient(iris_server.grpc) as client:
                assert await client.is_server_ready()
                assert (await client.get_model_metadata("iris")).name == "iris"
                answers = await asyncio.gather(*(client.infer("iris", [grpc_input()]) for _ in range(20)))
                return {tuple(answer.as_numpy("output-0").tolist()) for answer in answers}

        assert asyncio.run(ask()) == {(1, 1)}

    def test_a_stream_is_refused_with_advice(self, iris_server: Running) -> None:
        # Below the client's own stream, whose thread hides who came first, the call or its refusal.
        import grpc
        from tritonclient.grpc import service_pb2, service_pb2_grpc

        with grpc.insecure_channel(iris_server.grpc) as channel:
            stream = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(
                iter([service_pb2.ModelInferRequest(model_name="iris")]), timeout=20
            )
            with pytest.raises(grpc.RpcError) as caught:
                next(stream)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "send each request as a call of ModelInfer" in caught.value.details()

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


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl: .ci/test-tools installs it")
class TestCurl:
    def curl(self, *arguments: str, sent: bytes | None = None) -> Any:
        """The answer; `sent` goes to curl's own input."""
        ended = subprocess.run(
            ["curl", "-sS", "--fail-with-body", *arguments], input=sent, capture_output=True, timeout=60
        )
        assert ended.returncode == 0, ended
        return json.loads(ended.stdout)

    def test_a_gzip_body_and_a_gzip_answer(self, iris_server: Running) -> None:
        packed = gzip.compress(json.dumps({"instances": ROWS.tolist()}).encode())
        url = f"http://{iris_server.http}/v1/models/iris:predict"
        coded = ["-H", "Content-Encoding: gzip", "--compressed", "--data-binary", "@-"]
        assert self.curl(url, *coded, sent=packed) == {"predictions": [1, 1]}
        answer = subprocess.run(
            ["curl", "-sS", "-H", "Accept-Encoding: gzip", url, *coded[:2], "--data-binary", "@-"],
            input=packed, capture_output=True, timeout=60,
        )  # fmt: skip
        assert json.loads(gzip.decompress(answer.stdout)) == {"predictions": [1, 1]}

    @pytest.mark.parametrize("path", ["/v1/models/iris:predict", "/v2/models/iris/infer"])
    def test_a_chunked_body(self, iris_server: Running, path: str) -> None:
        tensor = {"name": "x", "shape": [2, 4], "datatype": "FP32", "data": ROWS.tolist()}
        body = {"instances": ROWS.tolist()} if path.startswith("/v1") else {"inputs": [tensor]}
        flags = ["-H", "Transfer-Encoding: chunked", "--data-binary", "@-"]
        answer = self.curl(f"http://{iris_server.http}{path}", *flags, sent=json.dumps(body).encode())
        found = answer["predictions"] if path.startswith("/v1") else answer["outputs"][0]["data"]
        assert found == [1, 1]

    def test_readiness_metadata_and_models(self, iris_server: Running) -> None:
        url = f"http://{iris_server.http}"
        assert self.curl(f"{url}/v2/health/ready") == {"ready": True}
        assert self.curl(f"{url}/v1/models/iris") == {"name": "iris", "ready": True}
        assert self.curl(f"{url}/v2/models/iris")["name"] == "iris"

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


@pytest.fixture(scope="module")
def told(iris_server: Running, echo_server: Running) -> dict[str, Any]:
    """What kserve's clients were told; all of them in one process, which imports kserve for seconds."""
    script = Path(__file__).parent / "kserve_scripts" / "clients.py"
    command = [KSERVE_PYTHON, str(script), iris_server.http, iris_server.grpc, echo_server.http]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert ended.returncode == 0, ended.stderr
    answers: dict[str, Any] = json.loads(ended.stdout)
    return answers


@needs_kserve
class TestKserve:
    @pytest.mark.parametrize("protocol", ["v1", "v2", "grpc"])
    def test_liveness_and_readiness(self, told: dict[str, Any], protocol: str) -> None:
        asked = [name for name in told if name.startswith(protocol) and name.endswith(("live", " ready"))]
        expected = {"v2 unknown model ready": False}
        for name in asked:
            if not name.startswith(("grpc unknown", "v1 unknown")):
                assert told[name] is expected.get(name, True), name
        assert len(asked) >= 2

    def test_v1(self, told: dict[str, Any]) -> None:
        assert told["v1 infer"] == {"predictions": [1, 1]}
        assert told["v1 explain"] == {"explanations": ROWS.tolist()}
        status, text = told["v1 no explanation"]
        assert (status, "does not explain" in text) == (501, True)
        assert told["v1 unknown model"][0] == 404

    @pytest.mark.parametrize(
        "form", ["v2 infer binary=False", "v2 infer binary=True", "grpc infer raw=False", "grpc infer raw=True"]
    )
    def test_inference(self, told: dict[str, Any], form: str) -> None:
        assert told[form] == ["7", "iris", [1, 1]]

    def test_binary_output(self, told: dict[str, Any]) -> None:
        assert told["v2 infer binary output"] == [1, 1]

    def test_errors_arrive_as_its_exceptions(self, told: dict[str, Any]) -> None:
        status, text = told["v2 wrong shape"]
        assert (status, "expected [rows, 4]" in text) == (400, True)
        assert told["v2 unknown model"][0] == 404
        assert told["grpc unknown model"] == ["NOT_FOUND", "Model with name none does not exist."]
        assert told["grpc unknown model ready"] == ["NOT_FOUND", "Model with name none does not exist."]
