"""Rows and columns with names as pandas tables, and tables as tensors.

pandas takes most of a second to import, so it is imported by the first request that needs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from ladle.errors import InvalidInput, Unsupported
from ladle.protocol.tensor import Tensor, tensor_of


def table_of_rows(rows: Sequence[Any]) -> Any:
    """The DataFrame of V1 rows, in each of the forms that KServe's clients send:

    a dict of scalars (one row), a dict of lists (its own rows), or a list of single-column dicts (one row in pieces).
    """
    merged = [_merge(row) for row in rows]
    frames = []
    pandas = _pandas()
    for row in merged:
        columns = {name: value if isinstance(value, list) else [value] for name, value in row.items()}
        try:
            frames.append(pandas.DataFrame(columns))
        except ValueError as error:
            raise InvalidInput(f"a row's columns do not form a table: {error}") from None
    return pandas.concat(frames, axis=0, ignore_index=True) if frames else pandas.DataFrame()


def _merge(row: object) -> dict[str, Any]:
    pieces = row if isinstance(row, list) else [row]
    merged: dict[str, Any] = {}
    for piece in pieces:
        if not isinstance(piece, dict):
            raise InvalidInput("rows with column names must all be objects")
        merged.update(piece)
    return merged


def table_of_columns(inputs: Iterable[Tensor]) -> Any:
    """The DataFrame whose columns are the inputs of a V2 request, one value a row; texts as `str`."""
    columns: dict[str, Any] = {}
    for tensor in inputs:
        values = tensor.strings() if tensor.datatype.name == "BYTES" else tensor.array
        if values.ndim > 2 or (values.ndim == 2 and values.shape[1] != 1):
            raise InvalidInput(
                f"input '{tensor.name}': a column has shape [rows] or [rows, 1], got {list(values.shape)}"
            )
        columns[tensor.name] = values.reshape(-1)
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidInput(f"columns must have the same length, got {lengths}")
    return _pandas().DataFrame(columns)


def is_table(value: object) -> bool:
    """Whether this is a pandas table, told without importing pandas."""
    return hasattr(value, "columns") and hasattr(value, "iloc")


def tensors_of_table(table: Any) -> tuple[Tensor, ...]:
    """One tensor for each column, as KServe answers tables."""
    return tuple(tensor_of(str(name), np.asarray(table[name])) for name in table.columns)


def _pandas() -> Any:
    try:
        return import_module("pandas")
    except ImportError:
        raise Unsupported(
            "rows with column names need pandas in the server's environment: pip install pandas"
        ) from None
