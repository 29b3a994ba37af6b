"""The PyTorch runtime against PyTorch, with a small CNN trained on scikit-learn's digits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; .ci/test-torch installs it where it can be had")

from ladle.protocol.messages import TensorMetadata  # noqa: E402  # They need torch.
from runtimes.pytorchserver.model import TorchModel  # noqa: E402
from runtimes.pytorchserver.settings import TorchSettings  # noqa: E402
from tests.ladle.server.serving import served  # noqa: E402
from tests.runtimes.conformance import Conformance, Subject  # noqa: E402
from tests.runtimes.torch_models import (  # noqa: E402
    DIGITS_CLASS,
    answer,
    digits,
    save_export,
    save_script,
    save_weights,
)

DECLARED = TorchSettings(inputs=(TensorMetadata("pixels", "FP32", (-1, 64)),))


class OfDigits(Conformance):
    tolerance = 1e-5

    def save(self, directory: Path) -> None:
        raise NotImplementedError

    settings = TorchSettings()

    def subject(self, directory: Path) -> Subject:
        model, pixels, _ = digits()
        self.save(directory)
        rows = pixels[::400]
        return Subject(
            TorchModel("m", directory, settings=self.settings), rows, answer(model, rows).numpy(), input_name="pixels"
        )


class TestTorchScript(OfDigits):
    """Declared inputs, since the archive has no shapes."""

    settings = DECLARED

    def save(self, directory: Path) -> None:
        model, pixels, _ = digits()
        save_script(model, directory, example=(torch.tensor(pixels[:2]),))


class TestExport(OfDigits):
    def save(self, directory: Path) -> None:
        model, pixels, _ = digits()
        save_export(model, directory, (torch.tensor(pixels[:2]),), {"pixels": {0: torch.export.Dim("rows")}})


class TestWeightsWithTheirClass(OfDigits):
    settings = DECLARED

    def save(self, directory: Path) -> None:
        save_weights(digits()[0], directory, DIGITS_CLASS)


async def test_it_reads_digits(tmp_path: Path) -> None:
    """Not only PyTorch's numbers: the right ones."""
    _, pixels, labels = digits()
    TestExport().save(tmp_path)
    async with served(TorchModel("m", tmp_path)) as app:
        answered = await app.v1("m", {"instances": pixels[:200].tolist()})
    found = np.argmax(json.loads(answered.body)["predictions"], axis=1)
    assert (found == labels[:200]).mean() > 0.9
