"""Kubernetes' quantities as exact numbers. (pure)"""

from __future__ import annotations

from fractions import Fraction

_SUFFIXES = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "": Fraction(1),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
    "Ti": Fraction(2**40),
    "Pi": Fraction(2**50),
    "Ei": Fraction(2**60),
}


def parse_quantity(text: str) -> Fraction:
    """The amount that `text` stands for; ValueError where it is no quantity.

    >>> parse_quantity("1500m")
    Fraction(3, 2)
    """
    number = text.strip().rstrip("".join(sorted(set("".join(_SUFFIXES)))))
    suffix = text.strip()[len(number) :]
    # `1E3` is scientific notation, `1E` an exa: an exponent ends in a digit and so stays with the number.
    if suffix not in _SUFFIXES:
        raise ValueError(f"{text!r} is no quantity: unknown suffix {suffix!r}")
    return Fraction(number) * _SUFFIXES[suffix]
