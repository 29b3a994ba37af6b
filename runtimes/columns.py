"""Tables by column name as the matrix of numbers that a booster was trained on.

Boosters know columns by name and categories by number. Their own pandas paths want the columns in the order of the
training and pandas' category type with the training's categories, neither of which a request has; and where a category
was never seen, XGBoost 3.2 answers for another one (measured 2026-11-21).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from ladle.errors import InvalidInput
from ladle.protocol.tensor import Array

Codes: TypeAlias = Mapping[object, int]
"""The number of each category of one column."""
_LISTED_MAX = 20
"""Categories that a complaint lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What a booster knows of its columns."""

    names: tuple[str, ...]
    categories: Mapping[str, Codes] = field(default_factory=dict)
    """By column, where the model's file tells them."""
    missing_allowed: bool = False
    """Whether columns may be left out, and categories be new: both count as missing values then."""

    def checked(self, rows: Array) -> Array:
        """Rows without names as numbers `(rows, columns)`, null as NaN; InvalidInput where they do not fit the model."""
        width = len(self.names)
        if rows.ndim != 2 or rows.shape[1] != width:
            raise InvalidInput(f"input has shape {list(rows.shape)}, expected [rows, {width}]")
        if rows.dtype.kind in "fiub":
            return rows
        if rows.dtype != object or not all(value is None or isinstance(value, int | float) for value in rows.flat):
            raise InvalidInput(f"input holds {rows.dtype}, expected numbers")
        return rows.astype("float64")

    def matrix(self, table: Any) -> Array:
        """A pandas table as float64 `(rows, columns)` in the model's order; InvalidInput that names the column at fault."""
        unknown = [name for name in table.columns if name not in self.names]
        if unknown:
            raise InvalidInput(f"columns {unknown} are unknown, the model has {list(self.names)}")
        absent = [name for name in self.names if name not in table.columns]
        if absent and not self.missing_allowed:
            raise InvalidInput(f"columns {absent} are missing, the model has {list(self.names)}")
        rows = np.full((len(table), len(self.names)), math.nan)
        for index, name in enumerate(self.names):
            if name in table.columns:
                rows[:, index] = self._numbers(name, table[name])
        return rows

    def _numbers(self, name: str, column: Any) -> Array:
        codes = self.categories.get(name)
        if codes is not None:
            return np.array([self._code(name, value, codes) for value in column])
        try:
            numbers: Array = column.to_numpy(dtype="float64", na_value=math.nan)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"column '{name}' must hold numbers: {error}") from None
        return numbers

    def _code(self, name: str, value: object, codes: Codes) -> float:
        if value is None or value != value:  # NaN is the one value that differs from itself.
            return math.nan
        if value in codes:
            return float(codes[value])
        if self.missing_allowed:
            return math.nan
        known = list(codes)[:_LISTED_MAX]
        raise InvalidInput(f"column '{name}' holds {value!r}, which the model does not know; it knows {known}")


def codes_of(categories: Sequence[object]) -> Codes:
    """Categories numbered in their order."""
    return {category: code for code, category in enumerate(categories)}
