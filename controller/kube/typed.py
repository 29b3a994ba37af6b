"""Objects of informers as types, each version parsed once, however many decisions look at it."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, TypeVar

from controller.api.meta import ApiModel
from controller.base.json import JsonView

PARSED_MAX = 256
"""Versions kept parsed, those that were asked for last. One change leads to some ten looks at each of some ten objects;
between changes nothing is looked at, so that there is no need to keep all. A typed pod takes 30 KB, hence 8 MB at most."""

Kind = TypeVar("Kind", bound=ApiModel)


class TypedObjects:
    """Parses what informers hand out. Those share one object for each version, and nobody may change it."""

    def __init__(self, parsed_max: int = PARSED_MAX) -> None:
        self._parsed_max = parsed_max
        # The object is kept as well: while it is, its identity is nobody else's.
        self._parsed: OrderedDict[tuple[type, int], tuple[JsonView, Any]] = OrderedDict()

    def of(self, model: type[Kind], item: JsonView) -> Kind:
        """`item` as `model`; pydantic's ValidationError where a field has the wrong type."""
        place = model, id(item)
        known = self._parsed.get(place)
        if known is not None:
            self._parsed.move_to_end(place)
            value: Kind = known[1]
            return value
        value = model.parse(item)
        self._parsed[place] = item, value
        if len(self._parsed) > self._parsed_max:
            self._parsed.popitem(last=False)
        return value
