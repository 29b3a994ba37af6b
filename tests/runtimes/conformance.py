"""What every runtime has to pass: the library's own numbers over V1, V2 as JSON, V2 in binary form, and gRPC.

A runtime subclasses Conformance and says how to make a model, which rows to ask, and what its library answers.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from ladle.errors import BadModel
from ladle.protocol.datatypes import datatype_of
from ladle.protocol.grpc.schema import message_class
from ladle.protocol.tensor import raw_of, tensor_from_raw, tensor_of
from ladle.server.batch_queue import BatchSettings
from ladle.server.model import Model
from tests.ladle.server.serving import Served, served, tensor

DEADLINE_S = 20.0


@dataclass(frozen=True)
class Subject:
    """A model to serve, and what its library says."""

    model: Model
    rows: np.ndarray
    expected: np.ndarray
    input_name: str = "input-0"
    output_name: str = "output-0"


class Conformance:
    """Tests of one runtime. `tolerance` is relative; 0 asks for equality."""

    tolerance = 1e-6
    binary_output = True

    def subject(self, directory: Path) -> Subject:
        raise NotImplementedError

    def same(self, found: Any, expected: np.ndarray) -> None:
        np.testing.assert_allclose(np.asarray(found).reshape(expected.shape), expected, rtol=self.tolerance)

    async def test_v1(self, tmp_path: Path) -> None:
        subject = self.subject(tmp_path)
        async with served(subject.model) as app:
            answer = await app.v1(subject.model.name, {"instances": with_nulls(subject.rows)})
            assert answer.status == 200, answer.text
            self.same(self.v1_rows(json.loads(answer.body)["predictions"], subject), subject.expected)

    def v1_rows(self, predictions: list[Any], subject: Subject) -> list[Any]:
        """The rows of the output in question; of several outputs each prediction is an object."""
        return [row[subject.output_name] if isinstance(row, dict) else row for row in predictions]

    async def test_v2_json(self, tmp_path: Path) -> None:
        subject = self.subject(tmp_path)
        async with served(subject.model) as app:
            body = {"inputs": [self.json_input(subject)], "outputs": [{"name": subject.output_name}]}
            answer = await app.v2(subject.model.name, body)
            assert answer.status == 200, answer.text
            (output,) = json.loads(answer.body)["outputs"]
        assert output["shape"] == list(subject.expected.shape)
        self.same(output["data"], subject.expected)

    async def test_v2_binary(self, tmp_path: Path) -> None:
        subject = self.subject(tmp_path)
        raw = bytes(raw_of(tensor_of("x", subject.rows)))
        item = tensor(
            subject.input_name, datatype_of(subject.rows).name, list(subject.rows.shape), binary_data_size=len(raw)
        )
        wanted = [{"name": subject.output_name, "parameters": {"binary_data": True}}]
        head = json.dumps({"inputs": [item], "outputs": wanted}).encode()
        async with served(subject.model) as app:
            answer = await app.v2(subject.model.name, head + raw, Inference_Header_Content_Length=str(len(head)))
            assert answer.status == 200, answer.text
        length = int(answer.headers["inference-header-content-length"])
        (output,) = json.loads(answer.body[:length])["outputs"]
        self.same(decode_raw(output["datatype"], output["shape"], answer.body[length:]), subject.expected)

    @pytest.mark.parametrize("raw", [True, False])
    async def test_grpc(self, tmp_path: Path, raw: bool) -> None:
        subject = self.subject(tmp_path)
        async with served(subject.model, grpc_port=0) as app:
            answer = await call(app, infer_message(subject, raw=raw))
        (output,) = answer.outputs
        if raw:
            found: Any = decode_raw(output.datatype, list(output.shape), answer.raw_output_contents[0])
        else:
            found = next(list(values) for _, values in output.contents.ListFields())
        self.same(found, subject.expected)

    async def test_a_batch_gives_everybody_their_own_row(self, tmp_path: Path) -> None:
        subject = self.subject(tmp_path)
        settings = BatchSettings(max_size=len(subject.rows), max_latency_s=5, waits_when_idle=True)
        async with served(subject.model, batching=settings) as app:
            bodies = [{"instances": [row]} for row in with_nulls(subject.rows)]
            answers = await asyncio.gather(*(app.v1(subject.model.name, body) for body in bodies))
        for answer, expected in zip(answers, subject.expected, strict=True):
            (found,) = self.v1_rows(json.loads(answer.body)["predictions"], subject)
            self.same(found, np.asarray(expected))

    async def test_rows_of_another_width_are_a_400_that_says_what_was_expected(self, tmp_path: Path) -> None:
        subject = self.subject(tmp_path)
        async with served(subject.model) as app:
            narrow = subject.rows[:, :-1]
            answer = await app.v1(subject.model.name, {"instances": with_nulls(narrow)})
            assert answer.status == 400
            assert str(subject.rows.shape[1]) in json.loads(answer.body)["error"]
            item = tensor(subject.input_name, datatype_of(narrow).name, list(narrow.shape), with_nulls(narrow))
            assert (await app.v2(subject.model.name, {"inputs": [item]})).status == 400

    async def test_texts_for_numbers_are_a_400(self, tmp_path: Path) -> None:
        subject = self.subject(tmp_path)
        rows = [["x"] * subject.rows.shape[1]]
        async with served(subject.model) as app:
            assert (await app.v1(subject.model.name, {"instances": rows})).status == 400
            item = tensor(subject.input_name, "BYTES", [1, len(rows[0])], rows)
            assert (await app.v2(subject.model.name, {"inputs": [item]})).status == 400

    async def test_metadata_has_inputs_outputs_and_an_engine(self, tmp_path: Path) -> None:
        subject = self.subject(tmp_path)
        async with served(subject.model) as app:
            metadata = json.loads((await app.get(f"/v2/models/{subject.model.name}")).body)
        assert metadata["inputs"][0]["shape"][-1] == subject.rows.shape[1]
        outputs = {output["name"]: output["shape"] for output in metadata["outputs"]}
        found = [len(subject.expected) if length == -1 else length for length in outputs[subject.output_name]]
        assert found == list(subject.expected.shape)
        assert metadata["properties"]["engine"]

    async def test_it_can_be_unloaded_and_loaded_again(self, tmp_path: Path) -> None:
        subject = self.subject(tmp_path)
        async with served(subject.model) as app:
            name = subject.model.name
            assert (await app.post(f"/v2/repository/models/{name}/unload", {})).status == 200
            assert (await app.post(f"/v2/repository/models/{name}/load", {})).status == 200
            assert (await app.v1(name, {"instances": with_nulls(subject.rows)})).status == 200

    def test_a_file_that_is_no_model_cannot_be_loaded(self, tmp_path: Path) -> None:
        model = self.subject(tmp_path / "good").model
        (found,) = (path for path in (tmp_path / "good").iterdir() if path.suffix not in (".data", ".py"))
        found.write_bytes(b"no model at all")
        with pytest.raises(Exception, match=r"."):
            model.load()

    def test_an_empty_directory_is_named(self, tmp_path: Path) -> None:
        model = self.subject(tmp_path / "good").model
        for path in (tmp_path / "good").iterdir():
            path.unlink()
        with pytest.raises(BadModel, match="found nothing"):
            model.load()

    def json_input(self, subject: Subject) -> dict[str, Any]:
        datatype = datatype_of(subject.rows).name
        return tensor(subject.input_name, datatype, list(subject.rows.shape), with_nulls(subject.rows))


def with_nulls(rows: np.ndarray) -> list[Any]:
    """The rows as JSON has them, which has no NaN."""
    return [[None if value != value else value for value in row] for row in rows.tolist()]


def decode_raw(datatype: str, shape: list[int], raw: bytes) -> Any:
    from ladle.protocol.datatypes import DATATYPES

    return tensor_from_raw("y", DATATYPES[datatype], tuple(shape), memoryview(raw)).array


def infer_message(subject: Subject, *, raw: bool) -> Any:
    request = message_class("inference.ModelInferRequest")(model_name=subject.model.name)
    datatype = datatype_of(subject.rows).name
    item = request.inputs.add(name=subject.input_name, datatype=datatype, shape=subject.rows.shape)
    request.outputs.add(name=subject.output_name)
    if raw:
        request.raw_input_contents.append(bytes(raw_of(tensor_of("x", subject.rows))))
    else:
        field = {"FP32": "fp32_contents", "FP64": "fp64_contents"}[datatype]
        getattr(item.contents, field).extend(subject.rows.reshape(-1).tolist())
    return request


async def call(app: Served, request: Any) -> Any:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.server.grpc_port}") as channel:
        stub = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=type(request).SerializeToString,
            response_deserializer=message_class("inference.ModelInferResponse").FromString,
        )
        return await stub(request, timeout=DEADLINE_S)
