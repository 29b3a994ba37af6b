"""What servers of one gradient boosting model have in common: a file, columns, and rows in, numbers out."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

from ladle.protocol.messages import InferRequest
from ladle.protocol.tensor import Array
from ladle.server.model import Model
from runtimes.columns import Columns


class BoosterModel(Model):
    """The one booster in a directory; `load` sets `_booster` and `_columns`."""

    thread_safe = True

    def __init__(self, name: str, directory: Path, *, threads: int = 1) -> None:
        super().__init__(name)
        self._directory = directory
        self._threads = threads
        self._booster: Any = None
        self._columns = Columns(names=())

    def predict(self, request: InferRequest) -> Any:
        if request.wants_table:
            return self._answer(self._columns.matrix(request.as_dataframe()))
        return self._answer(self._columns.checked(request.as_array()))

    def unload(self) -> None:
        self._booster = None

    @abstractmethod
    def _answer(self, rows: Array) -> Array:
        """The booster's numbers for rows of shape (batch, features)."""
