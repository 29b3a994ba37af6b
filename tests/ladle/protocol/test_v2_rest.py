"""V2 bodies: JSON, the binary tensor extension, and what each complaint says."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ladle.errors import InvalidInput, MissingField
from ladle.protocol.messages import InferRequest, InferResponse, RequestedOutput
from ladle.protocol.tensor import tensor_of
from ladle.protocol.v2_rest import decode_request, encode_response

IRIS = {
    "inputs": [
        {"name": "input-0", "shape": [2, 4], "datatype": "FP32", "data": [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]}
    ]
}


def parse(message: object, raw: bytes = b"", *, length: int | None = None) -> InferRequest:
    head = json.dumps(message).encode()
    binary = len(head) if raw or length is not None else None
    return decode_request("m", head + raw, binary if length is None else length)


def with_input(**changes: Any) -> dict[str, Any]:
    """A message with one input; None takes a field out."""
    item = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1.0, 2.0]} | changes
    return {"inputs": [{key: value for key, value in item.items() if value is not None}]}


def test_the_protocols_own_example() -> None:
    request = parse({**IRIS, "id": "42", "parameters": {"content_type": "np"}})
    assert (request.model_name, request.id, request.parameters) == ("m", "42", {"content_type": "np"})
    assert request.input("input-0").array.dtype == np.float32
    assert request.as_array().shape == (2, 4)


def test_a_request_without_an_id_gets_one_of_its_own() -> None:
    ids = {parse(IRIS).id for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", one) for one in ids)


def test_binary_and_json_inputs_mix_in_any_order() -> None:
    message = {
        "inputs": [
            {"name": "a", "shape": [1], "datatype": "INT16", "parameters": {"binary_data_size": 2}},
            {"name": "b", "shape": [1], "datatype": "FP64", "data": [2.5]},
            {"name": "c", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": 10}},
        ]
    }
    request = parse(message, b"\x01\x02" + b"\x01\0\0\0x\x01\0\0\0\xff")
    assert [tensor.array.tolist() for tensor in request.inputs] == [[0x201], [2.5], [b"x", b"\xff"]]


@pytest.mark.parametrize(
    ("message", "location"),
    [
        ({}, ("inputs",)),
        (with_input(name=None), ("inputs", 0, "name")),
        (with_input(shape=None), ("inputs", 0, "shape")),
        (with_input(datatype=None), ("inputs", 0, "datatype")),
        (with_input(data=None), ("inputs", 0, "data")),
        ({**IRIS, "outputs": [{}]}, ("outputs", 0, "name")),
    ],
)
def test_a_missing_field_is_located(message: object, location: tuple[str | int, ...]) -> None:
    with pytest.raises(MissingField) as caught:
        parse(message)
    assert caught.value.location == location


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        ([], "the body must be a JSON object"),
        ({"inputs": {}}, "inputs must be a list"),
        ({"inputs": [1]}, r"inputs\[0\] must be an object"),
        (with_input(name=1), r"inputs\[0\].name must be a string"),
        (with_input(shape="2"), r"inputs\[0\].shape must be a list"),
        (with_input(shape=[-1]), r"shape = \[-1\], every dimension must be an integer"),
        (with_input(shape=[2.0]), "every dimension must be an integer"),
        (with_input(shape=[True]), "every dimension must be an integer"),
        (with_input(shape=[1] * 40), "at most 32"),
        (with_input(datatype="FP31"), "input 'x': datatype 'FP31' is unknown, must be one of BOOL"),
        (with_input(datatype=["FP32"]), "is unknown"),
        (with_input(data=1), r"inputs\[0\].data must be a list"),
        (with_input(parameters=[1]), r"inputs\[0\].parameters must be an object"),
        (with_input(parameters={"a": {}}), r"inputs\[0\].parameters.a must be a string"),
        ({**IRIS, "id": 1}, "id must be a string"),
        ({**IRIS, "outputs": 1}, "outputs must be a list"),
    ],
)
def test_a_wrong_field_is_named(message: object, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        parse(message)


@pytest.mark.parametrize(
    ("changes", "raw", "complaint"),
    [
        (
            {"data": None, "parameters": {"binary_data_size": 9}},
            b"\0" * 8,
            "binary_data_size = 9, but 8 bytes are left",
        ),
        ({"data": None, "parameters": {"binary_data_size": -1}}, b"\0" * 8, "binary_data_size = -1"),
        ({"data": None, "parameters": {"binary_data_size": "8"}}, b"\0" * 8, "binary_data_size = 8, but"),
        ({"data": None, "parameters": {"binary_data_size": 4}}, b"\0" * 8, "expected 8 bytes for FP32"),
        ({"parameters": {"binary_data_size": 8}}, b"\0" * 8, "has both data and binary_data_size"),
        ({}, b"\0" * 8, "8 bytes follow the last input's data"),
    ],
)
def test_binary_data_that_does_not_add_up_is_named(changes: dict[str, Any], raw: bytes, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        parse(with_input(**changes), raw)


@pytest.mark.parametrize("length", [-1, 10_000])
def test_a_json_length_outside_the_body_is_refused(length: int) -> None:
    with pytest.raises(InvalidInput, match="inference-header-content-length"):
        parse(IRIS, length=length)


def response_to(request: InferRequest) -> tuple[dict[str, Any], bytes, int | None]:
    outputs = (tensor_of("a", np.array([1, 2])), tensor_of("b", np.array([[0.5]], dtype=np.float32)))
    encoded = encode_response(InferResponse(model_name="m", id="1", outputs=outputs), request)
    return json.loads(encoded.pieces[0]), b"".join(encoded.pieces[1:]), encoded.json_length


def asking(*outputs: tuple[str, dict[str, Any]], **parameters: Any) -> InferRequest:
    wanted = tuple(RequestedOutput(name, given) for name, given in outputs)
    return InferRequest(model_name="m", outputs=wanted, parameters=parameters)


def test_a_plain_response_is_json() -> None:
    message, raw, length = response_to(asking())
    assert message == {
        "model_name": "m",
        "id": "1",
        "outputs": [
            {"name": "a", "shape": [2], "datatype": "INT64", "data": [1, 2]},
            {"name": "b", "shape": [1, 1], "datatype": "FP32", "data": [0.5]},
        ],
    }
    assert (raw, length) == (b"", None)


@pytest.mark.parametrize(
    ("request_", "binary"),
    [
        (asking(binary_data_output=True), {"a", "b"}),
        (asking(("a", {"binary_data": True}), ("b", {})), {"a"}),
        (asking(("a", {"binary_data": False}), ("b", {"binary_data": True})), {"b"}),
        (asking(("a", {}), ("b", {"binary_data": True}), binary_data_output=True), {"b"}),
    ],
)
def test_the_request_says_which_outputs_are_binary(request_: InferRequest, binary: set[str]) -> None:
    message, raw, length = response_to(request_)
    sizes = {item["name"]: item.get("parameters", {}).get("binary_data_size") for item in message["outputs"]}
    assert {name for name, size in sizes.items() if size} == binary
    assert sum(size or 0 for size in sizes.values()) == len(raw)
    assert all(("data" in item) != (item["name"] in binary) for item in message["outputs"])
    assert (length is None) == (not binary)


def test_a_half_float_output_needs_binary_form() -> None:
    response = InferResponse(model_name="m", id="1", outputs=(tensor_of("h", np.array([1], dtype=np.float16)),))
    with pytest.raises(InvalidInput, match="output 'h': FP16 cannot be sent as JSON, ask for it in binary form"):
        encode_response(response, asking())
    assert encode_response(response, asking(binary_data_output=True)).pieces[1] == b"\0<"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["inputs", "name", "shape", "datatype", "data", "parameters", "outputs", "binary_data_size"]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # A busy machine is no finding.
@given(st.dictionaries(st.sampled_from(["inputs", "outputs", "id", "parameters"]), JSON), st.binary(max_size=20))
def test_whatever_comes_is_a_request_or_an_invalid_input(message: dict[str, Any], raw: bytes) -> None:
    body = json.dumps(message, allow_nan=False, default=str).encode() if _finite(message) else b"{}"
    with contextlib.suppress(InvalidInput):
        decode_request("m", body + raw, len(body))


@given(st.binary(max_size=100), st.none() | st.integers(-5, 120))
def test_arbitrary_bytes_are_an_invalid_input(body: bytes, length: int | None) -> None:
    with pytest.raises(InvalidInput):
        decode_request("m", body, length)


def _finite(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True
