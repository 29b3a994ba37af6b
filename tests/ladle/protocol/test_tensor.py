"""Tensors and their two forms: what goes out comes back, and what does not fit is named."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ladle.errors import InvalidInput
from ladle.protocol.datatypes import DATATYPES
from ladle.protocol.json import decode, encode
from ladle.protocol.tensor import Tensor, json_data_of, raw_of, tensor_from_json, tensor_from_raw, tensor_of

SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)


def elements(name: str) -> st.SearchStrategy[Any]:
    dtype = DATATYPES[name].dtype
    if name == "BYTES":
        return st.binary(max_size=6)
    if name == "BOOL":
        return st.booleans()
    if name == "BF16":  # What a float32 with an empty lower half can be.
        return (
            st.integers(0, 0xFF7F)
            .filter(lambda bits: bits & 0x7F80 != 0x7F80)
            .map(lambda bits: struct.unpack("<f", struct.pack("<I", bits << 16))[0])
        )
    if dtype.kind == "f":
        return st.floats(width=8 * dtype.itemsize)
    limits = np.iinfo(dtype)
    return st.integers(int(limits.min), int(limits.max))


@st.composite
def tensors(draw: st.DrawFn, names: list[str]) -> Tensor:
    name, shape = draw(st.sampled_from(names)), draw(SHAPES)
    count = math.prod(shape)
    values = draw(st.lists(elements(name), min_size=count, max_size=count))
    array = np.empty(count, dtype=DATATYPES[name].dtype)
    array[:] = values
    return Tensor("x", DATATYPES[name], array.reshape(shape))


@given(tensors(list(DATATYPES)))
def test_raw_bytes_come_back_as_they_were(tensor: Tensor) -> None:
    raw = bytes(raw_of(tensor))
    again = tensor_from_raw("x", tensor.datatype, tensor.shape, memoryview(raw))
    np.testing.assert_array_equal(again.array, tensor.array)
    assert bytes(raw_of(again)) == raw


@given(tensors([name for name, kind in DATATYPES.items() if kind.json and name != "BYTES"]))
def test_numbers_come_back_from_json(tensor: Tensor) -> None:
    data = decode(encode(json_data_of(tensor)))
    again = tensor_from_json("x", tensor.datatype, tensor.shape, data)
    expected = tensor.array
    if expected.dtype.kind == "f":
        expected = np.where(np.isfinite(expected), expected, np.nan)  # JSON has neither NaN nor infinities.
    np.testing.assert_array_equal(again.array, expected.astype(tensor.datatype.dtype))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=6))
def test_texts_come_back_from_json(texts: list[str]) -> None:
    tensor = tensor_from_json("x", DATATYPES["BYTES"], (len(texts),), texts)
    assert [element.decode() for element in tensor.array] == texts
    assert decode(encode(json_data_of(tensor))) == texts
    assert tensor.strings().tolist() == texts


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]], [[[1], [2]], [[3], [4]]]])
def test_json_data_may_be_flat_or_nested(data: list[Any]) -> None:
    tensor = tensor_from_json("x", DATATYPES["INT32"], (2, 2), data)
    assert tensor.array.tolist() == [[1, 2], [3, 4]]
    assert tensor.array.dtype == np.int32


@pytest.mark.parametrize(
    ("name", "shape", "data", "complaint"),
    [
        ("FP32", (2, 2), [1.0, 2.0, 3.0], r"input 'x': expected 4 elements for FP32 of shape \[2, 2\], got 3"),
        ("FP32", (2,), [[1.0], [2.0, 3.0]], r"ragged, expected FP32 of shape \[2\]"),
        ("FP32", (1,), ["1.5"], "data holds other values than FP32"),
        ("FP32", (2,), [1.5, "1.5"], "data holds other values than FP32"),
        ("FP32", (1,), [{"a": 1}], "data holds other values than FP32"),
        ("FP32", (1,), [1e300], "data holds values outside FP32"),
        ("FP16", (1,), [1.0], "FP16 cannot be sent as JSON, send it in binary form"),
        ("BF16", (1,), [1.0], "BF16 cannot be sent as JSON"),
        ("INT8", (1,), [128], "data holds values outside INT8"),
        ("INT32", (1,), [1.5], "data holds values outside INT32"),
        ("INT64", (1,), [None], "data holds other values than INT64"),
        ("INT64", (1,), [2**63], "data holds values outside INT64"),
        ("UINT8", (1,), [-1], "data holds values outside UINT8"),
        ("UINT64", (1,), [-1], "data holds values outside UINT64"),
        ("BOOL", (1,), [2], "data holds values outside BOOL"),
        ("BOOL", (1,), [0.5], "data holds other values than BOOL"),
        ("BYTES", (1,), [1], "data of BYTES must be strings"),
        ("BYTES", (2,), ["a", 1], "data of BYTES must be strings"),
    ],
)
def test_json_that_does_not_fit_is_named(name: str, shape: tuple[int, ...], data: list[Any], complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        tensor_from_json("x", DATATYPES[name], shape, data)


@pytest.mark.parametrize(
    ("name", "shape", "raw", "complaint"),
    [
        ("FP32", (2,), b"\0" * 7, r"input 'x': expected 8 bytes for FP32 of shape \[2\], got 7"),
        ("BF16", (2,), b"\0" * 8, "expected 4 bytes for BF16"),
        ("BYTES", (1,), b"\x05\0\0\0abc", "runs past the end"),
        ("BYTES", (1,), b"\x05\0", "runs past the end"),
        ("BYTES", (2,), b"\x01\0\0\0a", r"expected 2 elements for BYTES of shape \[2\], got 1"),
    ],
)
def test_raw_bytes_that_do_not_fit_are_named(name: str, shape: tuple[int, ...], raw: bytes, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        tensor_from_raw("x", DATATYPES[name], shape, memoryview(raw))


def test_whole_floats_are_integers_and_integers_are_floats() -> None:
    assert tensor_from_json("x", DATATYPES["INT32"], (2,), [1.0, -2.0]).array.tolist() == [1, -2]
    assert tensor_from_json("x", DATATYPES["FP64"], (2,), [1, 2]).array.dtype == np.float64
    assert tensor_from_json("x", DATATYPES["FP32"], (2,), [1.5, None]).array.tolist()[0] == 1.5


def test_an_array_that_does_not_begin_on_a_word_is_copied() -> None:
    tensor = tensor_from_raw("x", DATATYPES["FP64"], (1,), memoryview(b"\0" + struct.pack("<d", 2.5))[1:])
    assert tensor.array.flags.aligned
    assert tensor.array.tolist() == [2.5]


@pytest.mark.parametrize(
    ("values", "datatype"),
    [
        (np.array([1, 2]), "INT64"),
        (np.array([1.5], dtype=">f4"), "FP32"),
        (np.array([True]), "BOOL"),
        (np.array(["a"]), "BYTES"),
        (np.array([1.5], dtype=np.float16), "FP16"),
        ([1, 2], "INT64"),
        (2.5, "FP64"),
    ],
)
def test_results_of_models_find_their_datatype(values: object, datatype: str) -> None:
    assert tensor_of("y", values).datatype.name == datatype


def test_byte_swapped_and_strided_arrays_travel_in_little_endian_order() -> None:
    swapped = np.array([1.5, 2.5], dtype=">f4")
    assert bytes(raw_of(tensor_of("y", swapped))) == struct.pack("<2f", 1.5, 2.5)
    strided = np.arange(6, dtype=np.int32).reshape(2, 3)[:, ::2]
    assert decode(encode(json_data_of(tensor_of("y", strided)))) == [0, 2, 3, 5]


def test_what_has_no_datatype_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="complex128"):
        tensor_of("y", np.array([1j]))
