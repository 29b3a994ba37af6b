"""The REST surface: every path, every code, every error body (spec/kserve.md 5)."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ladle.server.data_plane import server_version
from tests.ladle.server.models import (
    AsyncModel,
    EchoModel,
    LoadModel,
    RawModel,
    StreamModel,
    SumModel,
    TwoOutputsModel,
    failing_models,
)
from tests.ladle.server.serving import Served, served, tensor
from tests.ladle.server.wire import ask, wire

ROWS = {"instances": [[1, 2], [3, 4]]}
V2_ROWS = {"id": "7", "inputs": [tensor("x", "FP32", [2, 2], [1, 2, 3, 4])]}


@pytest.fixture
async def app() -> AsyncIterator[Served]:
    models = [SumModel("sum"), EchoModel("echo"), TwoOutputsModel("two"), StreamModel("stream"), AsyncModel("async")]
    async with served(*models, RawModel("raw"), *failing_models()) as server:
        yield server


class TestStatus:
    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/", {"status": "alive"}),
            ("/v1/models/sum", {"name": "sum", "ready": True}),
            ("/v2", {"name": "ladle", "version": server_version()}),
            ("/v2/health/live", {"live": True}),
            ("/v2/health/ready", {"ready": True}),
            ("/v2/models/sum/ready", {"name": "sum", "ready": True}),
            ("/v2/models/sum?query=ignored", {"name": "sum", "versions": [], "platform": "test"}),
            ("/v2/models/s%75m/ready", {"name": "sum", "ready": True}),
        ],
    )
    async def test_what_is_asked_is_answered(self, app: Served, path: str, body: dict[str, Any]) -> None:
        answer = await app.get(path)
        found = json.loads(answer.body)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert {key: found[key] for key in body} == body

    async def test_the_models_are_listed_by_both_protocols(self, app: Served) -> None:
        names = ["sum", "echo", "two", "stream", "async", "raw", "inference", "bug", "missing"]
        assert json.loads((await app.get("/v1/models")).body) == {"models": names}
        assert json.loads((await app.get("/v2/models")).body) == {"models": names}

    async def test_metadata_tells_inputs_and_outputs(self, app: Served) -> None:
        found = json.loads((await app.get("/v2/models/sum")).body)
        assert found["inputs"] == [{"name": "input-0", "datatype": "FP64", "shape": [-1, -1]}]
        assert found["outputs"] == [{"name": "output-0", "datatype": "FP64", "shape": [-1]}]

    async def test_extensions_are_named(self, app: Served) -> None:
        assert "model_repository_extension" in json.loads((await app.get("/v2")).body)["extensions"]

    @pytest.mark.parametrize("path", ["/v1/models/none", "/v2/models/none", "/v2/models/none/ready"])
    async def test_an_unknown_model_is_a_404_that_names_it(self, app: Served, path: str) -> None:
        answer = await app.get(path)
        assert (answer.status, json.loads(answer.body)) == (404, {"error": "Model with name none does not exist."})

    @pytest.mark.parametrize("path", ["/nope", "/v3", "/v2/models/sum/nope", "/v1/models/sum/x", "//"])
    async def test_an_unknown_path_is_a_404(self, app: Served, path: str) -> None:
        answer = await app.get(path)
        assert (answer.status, answer.text) == (404, '{"detail":"Not Found"}')

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("GET", "/v2/models/sum/infer", "post"),
            ("GET", "/v1/models/sum:predict", "post"),
            ("POST", "/v2/health/live", "get"),
            ("DELETE", "/v2/models/sum", "get"),
        ],
    )
    async def test_a_wrong_method_is_a_405_that_tells_the_right_one(
        self, app: Served, method: str, path: str, allowed: str
    ) -> None:
        answer = await ask(app.port, method, path)
        assert (answer.status, answer.headers["allow"]) == (405, allowed)

    async def test_head_is_get_without_the_body(self, app: Served) -> None:
        assert (await ask(app.port, "HEAD", "/v2/health/ready")).status == 200

    @pytest.mark.parametrize("path", ["/v2/models/sum/versions/1", "/v2/models/sum/versions/1/infer"])
    async def test_versions_are_not_implemented(self, app: Served, path: str) -> None:
        assert (await app.get(path)).status == 501


class TestV1:
    async def test_a_prediction(self, app: Served) -> None:
        answer = await app.v1("sum", ROWS, content_type="application/json")
        assert (answer.status, answer.text) == (200, '{"predictions":[3,7]}')

    async def test_inputs_come_before_instances(self, app: Served) -> None:
        assert (await app.v1("sum", {"instances": [[1]], "inputs": [[2, 3]]})).text == '{"predictions":[5]}'

    @pytest.mark.parametrize(
        "content_type", ["application/x-www-form-urlencoded", "text/plain", "application/json; x=y"]
    )
    async def test_json_is_json_whatever_the_client_calls_it(self, app: Served, content_type: str) -> None:
        assert (await app.v1("sum", ROWS, content_type=content_type)).status == 200

    async def test_a_model_that_takes_raw_bodies_gets_them(self, app: Served) -> None:
        assert (await app.v1("raw", b"\xff\xd8", content_type="image/jpeg")).body == b"\xff\xd8"
        assert json.loads((await app.v1("raw", ROWS)).body) == {"parsed": ROWS}

    async def test_a_models_own_object_is_the_body(self, app: Served) -> None:
        assert json.loads((await app.v1("echo", {"instances": [{"a": 1}], "x": None})).body) == {
            "instances": [{"a": 1}],
            "x": None,
        }

    async def test_several_outputs_become_objects(self, app: Served) -> None:
        assert json.loads((await app.v1("two", ROWS)).body) == {"label": ["yes", "no"], "score": [1, 3]}

    async def test_an_asynchronous_model(self, app: Served) -> None:
        assert (await app.v1("async", ROWS)).text == '{"predictions":[[2,4],[6,8]]}'

    async def test_a_stream(self, app: Served) -> None:
        answer = await app.v1("stream", {"instances": ["a", "b"]})
        assert (answer.headers["content-type"], answer.text) == ("text/event-stream", "data: a\n\ndata: b\n\n")

    @pytest.mark.parametrize(
        ("body", "error"),
        [
            (b"{nope", "Unrecognized request format: "),
            (b"", "Unrecognized request format: "),
            (b"\xff", "Unrecognized request format: "),
            ({"instances": 1}, 'Expected "instances" to be a list'),
            ({"inputs": {"a": 1}}, 'Expected "inputs" to be a list'),
            ({"rows": []}, 'Expected "instances" or "inputs" in the request body'),
            ([1], 'Expected a JSON object with "instances" or "inputs"'),
            (b"null", 'Expected a JSON object with "instances" or "inputs"'),
            ({"instances": [[1], [2, 3]]}, '"instances" is ragged: every row must have the same shape'),
        ],
    )
    async def test_a_bad_body_is_a_400(self, app: Served, body: object, error: str) -> None:
        answer = await app.v1("sum", body)
        assert answer.status == 400
        assert json.loads(answer.body)["error"].startswith(error)

    async def test_a_model_that_does_not_explain_is_a_501(self, app: Served) -> None:
        assert (await app.post("/v1/models/sum:explain", ROWS)).status == 501

    async def test_an_unknown_model_is_a_404(self, app: Served) -> None:
        assert (await app.v1("none", ROWS)).status == 404


class TestV2:
    async def test_an_inference(self, app: Served) -> None:
        assert json.loads((await app.v2("sum", V2_ROWS)).body) == {
            "model_name": "sum",
            "id": "7",
            "outputs": [tensor("output-0", "FP32", [2], [3.0, 7.0])],
        }

    async def test_every_output_has_its_name_shape_and_type(self, app: Served) -> None:
        outputs = json.loads((await app.v2("two", V2_ROWS)).body)["outputs"]
        assert outputs == [tensor("label", "BYTES", [2], ["yes", "no"]), tensor("score", "FP32", [2], [1.0, 3.0])]

    async def test_only_requested_outputs_come_in_their_order(self, app: Served) -> None:
        answer = await app.v2("two", {**V2_ROWS, "outputs": [{"name": "score"}, {"name": "label"}]})
        assert [output["name"] for output in json.loads(answer.body)["outputs"]] == ["score", "label"]

    async def test_an_unknown_output_is_a_400_that_lists_the_known(self, app: Served) -> None:
        answer = await app.v2("two", {**V2_ROWS, "outputs": [{"name": "nope"}]})
        assert answer.status == 400
        assert json.loads(answer.body)["error"] == "output 'nope' is unknown, the model has ['label', 'score']"

    async def test_binary_tensors_both_ways(self, app: Served) -> None:
        message = {
            "inputs": [tensor("x", "FP32", [2, 2], None, binary_data_size=16)],
            "parameters": {"binary_data_output": True},
        }
        head = json.dumps(message).encode()
        answer = await app.v2(
            "sum", head + struct.pack("<4f", 1, 2, 3, 4), Inference_Header_Content_Length=str(len(head))
        )
        length = int(answer.headers["inference-header-content-length"])
        assert answer.headers["content-type"] == "application/octet-stream"
        assert json.loads(answer.body[:length])["outputs"][0]["parameters"] == {"binary_data_size": 8}
        assert struct.unpack("<2f", answer.body[length:]) == (3.0, 7.0)

    async def test_a_binary_body_without_its_header_is_a_400(self, app: Served) -> None:
        answer = await app.v2("sum", b"{}\x00\x00", content_type="application/octet-stream")
        assert answer.status == 400
        assert "inference-header-content-length" in answer.text

    @pytest.mark.parametrize("length", ["x", "-1", "99999999999999999999"])
    async def test_a_nonsense_json_length_is_a_400(self, app: Served, length: str) -> None:
        answer = await app.v2("sum", V2_ROWS, Inference_Header_Content_Length=length)
        assert (answer.status, "inference-header-content-length" in answer.text) == (400, True)

    async def test_a_missing_field_is_a_422_that_locates_it(self, app: Served) -> None:
        answer = await app.v2("sum", {"inputs": [{"name": "x", "shape": [1], "data": [1]}]})
        detail = {"type": "missing", "loc": ["body", "inputs", 0, "datatype"], "msg": "Field required"}
        assert answer.status == 422
        assert json.loads(answer.body) == {"error": "inputs.0.datatype: field required", "detail": [detail]}

    async def test_an_empty_list_of_inputs_is_the_models_to_refuse(self, app: Served) -> None:
        assert (await app.v2("sum", {"inputs": []})).status == 400


class TestModelErrors:
    @pytest.mark.parametrize(
        ("name", "status", "error"),
        [
            ("inference", 500, "the GPU is on fire"),
            ("bug", 500, "ZeroDivisionError : division by zero"),
            ("missing", 501, "not yet"),
        ],
    )
    @pytest.mark.parametrize("protocol", ["v1", "v2"])
    async def test_they_have_kserves_codes_and_texts(
        self, app: Served, name: str, status: int, error: str, protocol: str
    ) -> None:
        answer = await (app.v1(name, ROWS) if protocol == "v1" else app.v2(name, V2_ROWS))
        assert (answer.status, json.loads(answer.body)) == (status, {"error": error})


class TestCodings:
    @pytest.mark.parametrize(
        ("coding", "packed"),
        [
            ("gzip", gzip.compress(json.dumps(ROWS).encode(), mtime=0)),
            ("deflate", zlib.compress(json.dumps(ROWS).encode())),
            ("deflate", zlib.compress(json.dumps(ROWS).encode(), wbits=-15)),
            ("identity", json.dumps(ROWS).encode()),
        ],
    )
    async def test_packed_bodies_are_unpacked(self, app: Served, coding: str, packed: bytes) -> None:
        assert (await app.v1("sum", packed, content_encoding=coding)).text == '{"predictions":[3,7]}'

    @pytest.mark.parametrize(
        ("coding", "packed", "status"),
        [
            ("gzip", b"nope", 400),
            ("gzip", gzip.compress(b"{}", mtime=0)[:-4], 400),
            ("deflate", b"\0", 400),
            ("br", b"x", 501),
        ],
    )
    async def test_broken_ones_are_refused(self, app: Served, coding: str, packed: bytes, status: int) -> None:
        assert (await app.v1("sum", packed, content_encoding=coding)).status == status

    @pytest.mark.parametrize(("wish", "unpack"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
    async def test_an_answer_is_packed_for_who_asks_for_that_alone(self, app: Served, wish: str, unpack: Any) -> None:
        answer = await app.v2("sum", V2_ROWS, accept_encoding=wish)
        assert answer.headers["content-encoding"] == wish
        assert json.loads(unpack(answer.body))["id"] == "7"
        assert "content-encoding" not in (await app.v2("sum", V2_ROWS, accept_encoding="gzip, deflate, br")).headers


class TestReadiness:
    async def test_a_model_that_loads_is_not_ready_and_says_so(self) -> None:
        model = LoadModel()
        async with served(model, load=False) as app:
            loading = app.server.tasks.create_task(app.server.load())
            for path in ("/v1/models/load", "/v2/models/load/ready", "/v2/health/ready"):
                assert (await app.get(path)).status == 503
            assert (await app.get("/v2/health/live")).status == 200
            answer = await app.v1("load", ROWS)
            assert (answer.status, json.loads(answer.body)["error"][:34]) == (503, "Model with name load is not ready.")
            model.release.set()
            assert await loading
            assert (await app.get("/v2/health/ready")).status == 200
            assert (await app.v1("load", ROWS)).text == '{"predictions":[1]}'

    async def test_load_and_unload_at_run_time(self) -> None:
        model = LoadModel()
        model.release.set()
        async with served(model) as app:
            assert (await app.post("/v2/repository/models/load/unload", {})).text == '{"name":"load","unload":true}'
            assert (await app.v1("load", ROWS)).status == 503
            assert (await app.get("/v2/health/ready")).status == 200  # What was unloaded by request is not waited for.
            assert (await app.post("/v2/repository/models/load/load", {})).text == '{"name":"load","load":true}'
            assert (await app.v1("load", ROWS)).text == '{"predictions":[2]}'
            assert (model.loads, model.unloads) == (2, 1)

    async def test_a_load_that_fails_is_a_503_with_the_reason(self) -> None:
        model = LoadModel(error=ValueError("no weights"))
        model.release.set()
        async with served(model, load=False) as app:
            answer = await app.post("/v2/repository/models/load/load", {})
            assert (answer.status, "ValueError: no weights" in answer.text) == (503, True)
            assert "no weights" in (await app.v1("load", ROWS)).text

    @pytest.mark.parametrize("verb", ["load", "unload"])
    async def test_an_unknown_model_cannot_be(self, app: Served, verb: str) -> None:
        assert (await app.post(f"/v2/repository/models/none/{verb}", {})).status == 404


class TestMetrics:
    async def test_the_page_has_kserves_names_and_ours(self, app: Served) -> None:
        await app.v1("sum", ROWS)
        await app.v2("bug", V2_ROWS)
        page = (await app.get("/metrics")).text
        for line in (
            'request_predict_seconds_count{model_name="sum"} 1.0',
            'request_preprocess_seconds_count{model_name="sum"} 1.0',
            'request_postprocess_seconds_count{model_name="sum"} 1.0',
            'request_explain_seconds_count{model_name="sum"} 0.0',
            'ladle_request_queue_seconds_count{model_name="sum"} 1.0',
            'ladle_model_load_seconds{model_name="sum"}',
            'ladle_requests_total{code="200",model_name="sum",protocol="v1"} 1.0',
            'ladle_requests_total{code="500",model_name="bug",protocol="v2"} 1.0',
            "process_resident_memory_bytes",
        ):
            assert line in page

    async def test_the_size_of_a_model_is_that_of_its_files(self, tmp_path: Path) -> None:
        (tmp_path / "1").mkdir()
        (tmp_path / "1" / "weights").write_bytes(bytes(1000))
        (tmp_path / "labels").write_bytes(bytes(24))
        (tmp_path / "gone").symlink_to("nowhere")
        model = SumModel("sum")
        model.directory = tmp_path
        async with served(model) as app:
            assert 'ladle_model_size_bytes{model_name="sum"} 1024.0' in (await app.get("/metrics")).text

    async def test_openmetrics_for_who_accepts_it(self, app: Served) -> None:
        answer = await app.get("/metrics", accept="application/openmetrics-text; version=1.0.0")
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert answer.text.endswith("# EOF\n")

    async def test_names_that_strangers_invent_make_no_series(self, app: Served) -> None:
        for number in range(3):
            await app.v1(f"invented-{number}", ROWS)
        assert "invented" not in (await app.get("/metrics")).text


async def test_many_requests_on_one_connection_keep_their_order(app: Served) -> None:
    async with wire(app.port) as connection:
        for number in range(50):
            connection.ask("POST", "/v1/models/sum:predict", json.dumps({"instances": [[number, 0]]}).encode())
        for number in range(50):
            assert (await connection.answer()).text == f'{{"predictions":[{number}]}}'
