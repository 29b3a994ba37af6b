"""A LightGBM booster behind V1, V2 and gRPC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ladle.protocol.messages import InferRequest, ModelMetadata, TensorMetadata
from ladle.protocol.results import DEFAULT_OUTPUT
from ladle.server.model import Model
from ladle.server.model_files import find_model_file
from runtimes.columns import Codes, Columns, codes_of

EXTENSIONS = (".bst", ".txt")
_INFOS = "feature_infos="
"""The line of a model's file that has each feature's range, `[min:max]`, or its categories' numbers, `0:2:1`."""
_UNUSED = "none"


class LightGBMModel(Model):
    """The one booster in a directory. Rows by column name may leave columns out: those count as missing values."""

    thread_safe = True

    def __init__(self, name: str, directory: Path, *, threads: int = 1) -> None:
        super().__init__(name)
        self._directory = directory
        self._threads = threads
        self._booster: Any = None
        self._version = ""
        self._columns = Columns(names=())

    def load(self) -> None:
        import lightgbm

        path = find_model_file(self._directory, EXTENSIONS)
        self._booster = lightgbm.Booster(model_file=str(path))
        self._version = lightgbm.__version__
        names = tuple(self._booster.feature_name())
        categories = _categories(names, _infos(path), self._booster.pandas_categorical or [])
        self._columns = Columns(names=names, categories=categories, missing_allowed=True)

    def predict(self, request: InferRequest) -> Any:
        if request.wants_table:
            rows = self._columns.matrix(request.as_dataframe())
        else:
            rows = self._columns.checked(request.as_array())
        return self._booster.predict(rows, num_threads=self._threads)

    def metadata(self) -> ModelMetadata:
        classes = self._booster.num_model_per_iteration()
        return ModelMetadata(
            name=self.name,
            platform="lightgbm",
            inputs=(TensorMetadata("input-0", "FP64", (-1, len(self._columns.names))),),
            outputs=(TensorMetadata(DEFAULT_OUTPUT, "FP64", (-1, classes) if classes > 1 else (-1,)),),
            properties={"engine": "lightgbm", "version": self._version},
        )

    def unload(self) -> None:
        self._booster = None


def _infos(path: Path) -> list[str]:
    """What the file's head says of each feature; LightGBM itself tells only of those that a tree uses."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        line = next((line for line in lines if line.startswith(_INFOS)), "")
    return line.removeprefix(_INFOS).split()


def _categories(
    names: Sequence[str], infos: Sequence[str], categories: Sequence[Sequence[object]]
) -> Mapping[str, Codes]:
    """The categories by column.

    The file lists them without names, in the order of the columns. {} where that order does not tell whose they are:
    another column was given to LightGBM as numbers of categories, or one has a single value and so is not told apart.
    """
    owners = [name for name, info in zip(names, infos, strict=False) if info != _UNUSED and not info.startswith("[")]
    if len(owners) != len(categories):
        return {}
    return {name: codes_of(values) for name, values in zip(owners, categories, strict=True)}
