"""A LightGBM booster behind V1, V2 and gRPC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ladle.protocol.messages import ModelMetadata, TensorMetadata
from ladle.protocol.results import DEFAULT_OUTPUT
from ladle.protocol.tensor import Array
from ladle.server.model_files import find_model_file
from runtimes.booster import BoosterModel
from runtimes.columns import Codes, Columns, codes_of

EXTENSIONS = (".bst", ".txt")
_INFOS = "feature_infos="
"""The line of a model's file that has each feature's range, `[min:max]`, or its categories' numbers, `0:2:1`."""
_UNUSED = "none"


class LightGBMModel(BoosterModel):
    """The one booster in a directory. Rows by column name may leave columns out: those count as missing values."""

    _version = ""

    def load(self) -> None:
        import lightgbm

        path = find_model_file(self._directory, EXTENSIONS)
        self._booster = lightgbm.Booster(model_file=str(path))
        self._version = lightgbm.__version__
        names = tuple(self._booster.feature_name())
        categories = _categories(names, _infos(path), self._booster.pandas_categorical or [])
        self._columns = Columns(names=names, categories=categories, missing_allowed=True)

    def metadata(self) -> ModelMetadata:
        classes = self._booster.num_model_per_iteration()
        return ModelMetadata(
            name=self.name,
            platform="lightgbm",
            inputs=(TensorMetadata("input-0", "FP64", (-1, len(self._columns.names))),),
            outputs=(TensorMetadata(DEFAULT_OUTPUT, "FP64", (-1, classes) if classes > 1 else (-1,)),),
            properties={"engine": "lightgbm", "version": self._version},
        )

    def _answer(self, rows: Array) -> Array:
        found: Array = self._booster.predict(rows, num_threads=self._threads)
        return found


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
