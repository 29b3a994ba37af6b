"""Reading one value of a config map: each function returns the value, or the default where the key is absent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from controller.api.quantity import quantity_or_none
from controller.base.errors import UserError
from onebox.knative.duration import parse_duration_s


class ConfigReader:
    """The values of one config map, with errors that name the map and the key."""

    def __init__(self, map_name: str, data: Mapping[str, str]) -> None:
        self._map_name = map_name
        self._data = data

    def text(self, key: str, default: str, *, old_key: str = "") -> str:
        """`old_key`: a name of the same setting that Knative still reads."""
        return self._data.get(key, self._data.get(old_key, default))

    def flag(self, key: str, default: bool) -> bool:
        return self._data[key].lower() == "true" if key in self._data else default

    def integer(self, key: str, default: int, *, minimum: int = 0, old_key: str = "") -> int:
        raw = self.text(key, str(default), old_key=old_key)
        try:
            value = int(raw)
        except ValueError:
            self.reject(key, raw, "must be a whole number")
        if value < minimum:
            self.reject(key, raw, f"must be at least {minimum}")
        return value

    def duration_s(self, key: str, default: str, *, old_key: str = "") -> float:
        raw = self.text(key, default, old_key=old_key)
        try:
            return parse_duration_s(raw)
        except ValueError:
            self.reject(key, raw, "must be a duration such as 90s or 10m")

    def quantity(self, key: str, default: str | None = None, *, old_key: str = "") -> str | None:
        raw = self.text(key, default or "", old_key=old_key)
        if raw and quantity_or_none(raw) is None:
            self.reject(key, raw, "must be a quantity such as 100m or 1Gi")
        return raw or None

    def reject(self, key: str, value: str, rule: str) -> NoReturn:
        raise UserError("InvalidConfiguration", f"{self._map_name}: {key} = {value!r}, {rule}")
