"""Kubernetes quantities as numbers."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.quantity import parse_quantity


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", "1"),
        ("100m", "0.1"),
        ("2Gi", str(2 * 2**30)),
        ("1.5k", "1500"),
        ("1e3", "1000"),
        (".5", "0.5"),
        (3, "3"),
        ("-1", "-1"),
    ],
)
def test_amounts(text: str | int, number: str) -> None:
    assert parse_quantity(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "lots", "1 Gi", "1gi", "Gi", "1e", "٣", "1e99999999"])
def test_what_is_no_amount_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="no quantity"):
        parse_quantity(text)


@given(st.integers(0, 10**6), st.sampled_from(["", "m", "k", "Ki", "Mi", "G"]))
def test_more_is_more(amount: int, suffix: str) -> None:
    assert parse_quantity(f"{amount}{suffix}") < parse_quantity(f"{amount + 1}{suffix}")
