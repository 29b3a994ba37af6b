"""Kubernetes quantities (`500m`, `1Gi`, `1e3`) as exact numbers."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(m|u|n|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?\d+)?")
_FACTORS = {"n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), None: Decimal(1), "k": Decimal(1000)}
_FACTORS |= {unit: Decimal(1000) ** power for power, unit in enumerate("MGTPE", 2)}
_FACTORS |= {f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)}


def parse_quantity(text: object) -> Decimal | None:
    """The number that a quantity stands for; None where it is none. A JSON number counts as written out."""
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        return None
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        return None
    digits, suffix = match.groups()
    try:
        if suffix is not None and suffix not in _FACTORS:
            return Decimal(digits + suffix)
        return Decimal(digits) * _FACTORS[suffix]
    except InvalidOperation:
        return None
