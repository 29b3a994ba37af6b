"""Kubernetes quantities such as `100m` or `2Gi` as exact numbers."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

_QUANTITY: Final = re.compile(
    r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d{1,3})|(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?)", re.ASCII
)
_SCALES: Final[dict[str, Decimal]] = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}


def parse_quantity(value: str | float) -> Decimal:
    """The number that `value` stands for; ValueError where it is no quantity.

    >>> parse_quantity("1500m")
    Decimal('1.500')
    """
    found = _QUANTITY.fullmatch(str(value))
    if found is None:
        raise ValueError(f"{value!r} is no quantity")
    number, exponent, suffix = found.groups()
    return Decimal(number + (exponent or "")) * _SCALES.get(suffix, Decimal(1))


def quantity_or_none(value: object) -> Decimal | None:
    """The number that `value` stands for; None where it is no quantity. A JSON number counts as written out."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        return parse_quantity(value)
    except ValueError:
        return None
