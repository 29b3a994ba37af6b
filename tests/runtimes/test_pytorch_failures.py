"""Inputs that do not fit a layer are the client's mistake, and what a model's own code raises is the model's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; .ci/test-torch installs it where it can be had")

from torch import nn, ones  # noqa: E402  # They need torch.

from runtimes.pytorchserver.failures import misfit_message  # noqa: E402
from tests.runtimes.torch_models import save_script  # noqa: E402

DOUBLES, INTEGERS = torch.float64, torch.int64
LAYERS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "linear": (nn.Linear(4, 3), (ones(2, 5),)),
    "linear of doubles": (nn.Linear(4, 3), (ones(2, 4, dtype=DOUBLES),)),
    "linear of integers": (nn.Linear(4, 3), (ones(2, 4, dtype=INTEGERS),)),
    "linear of a number": (nn.Linear(4, 3), (ones(()),)),
    "convolution, channels": (nn.Conv2d(3, 4, 3), (ones(1, 1, 8, 8),)),
    "convolution, dimensions": (nn.Conv2d(3, 4, 3), (ones(8, 8),)),
    "convolution of doubles": (nn.Conv2d(3, 4, 3), (ones(1, 3, 8, 8, dtype=DOUBLES),)),
    "convolution, too small": (nn.Conv2d(3, 4, 9), (ones(1, 3, 4, 4),)),
    "transposed convolution": (nn.ConvTranspose2d(3, 4, 3), (ones(1, 5, 8, 8),)),
    "batch norm": (nn.BatchNorm2d(3).eval(), (ones(1, 4, 8, 8),)),
    "batch norm, dimensions": (nn.BatchNorm2d(3).eval(), (ones(1, 4, 8),)),
    "layer norm": (nn.LayerNorm(5), (ones(2, 4),)),
    "group norm": (nn.GroupNorm(2, 4), (ones(2, 6, 3),)),
    "embedding, index": (nn.Embedding(10, 3), (torch.tensor([11]),)),
    "embedding of floats": (nn.Embedding(10, 3), (torch.tensor([1.0]),)),
    "lstm": (nn.LSTM(4, 3), (ones(2, 2, 5),)),
    "lstm, dimensions": (nn.LSTM(4, 3), (ones(5),)),
    "gru": (nn.GRU(4, 3), (ones(2, 2, 5),)),
    "attention": (nn.MultiheadAttention(4, 2), (ones(2, 2, 5),) * 3),
    "encoder": (nn.TransformerEncoderLayer(4, 2, batch_first=True).eval(), (ones(2, 2, 5),)),
    "pooling": (nn.MaxPool2d(9), (ones(1, 1, 4, 4),)),
    "pooling, dimensions": (nn.MaxPool2d(2), (ones(4),)),
    "unflatten": (nn.Unflatten(1, (1, 8, 8)), (ones(2, 63),)),
    "flatten": (nn.Flatten(), (ones(2),)),
    "bilinear": (nn.Bilinear(2, 3, 4), (ones(1, 2), ones(1, 4))),
    "prelu": (nn.PReLU(3), (ones(1, 4),)),
    "pixel shuffle": (nn.PixelShuffle(2), (ones(1, 3, 4, 4),)),
    "sum": (lambda a, b: a + b, (ones(2, 3), ones(2, 4))),
    "cat": (lambda a, b: torch.cat([a, b], 1), (ones(2, 3), ones(3, 3))),
    "cat, dimensions": (lambda a, b: torch.cat([a, b], 1), (ones(2, 3), ones(3))),
    "stack": (lambda a, b: torch.stack([a, b]), (ones(2), ones(3))),
    "batched product": (torch.bmm, (ones(2, 3, 4), ones(2, 3, 4))),
    "view": (lambda a: a.view(-1, 64), (ones(2, 63),)),
    "einsum": (lambda a, b: torch.einsum("ij,jk->ik", a, b), (ones(2, 3), ones(2, 3))),
    "index": (lambda a: torch.arange(3)[a], (torch.tensor([5]),)),
    "index of floats": (lambda a: torch.arange(3)[a], (torch.tensor([1.0]),)),
    "column": (lambda a: a[:, 5], (ones(2, 3),)),
    "column of a vector": (lambda a: a[:, 5], (ones(2),)),
    "where": (lambda a, b: torch.where(a, b, 0), (ones(2), ones(2))),
    "permute": (lambda a: a.permute(0, 2, 1), (ones(2, 3),)),
    "difference of truths": (lambda a: a - a, (ones(2, dtype=torch.bool),)),
    "mean of integers": (lambda a: a.mean(), (ones(2, dtype=INTEGERS),)),
    "gather": (lambda a, b: a.gather(1, b), (ones(2, 3), torch.tensor([[9], [1]]))),
    "expand": (lambda a: a.expand(2, 3), (ones(2, 4),)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_misfit_is_told_in_pytorchs_words(name: str) -> None:
    layer, inputs = LAYERS[name]
    with torch.inference_mode(), pytest.raises((RuntimeError, ValueError, IndexError, AssertionError)) as raised:
        layer(*inputs)
    assert misfit_message(raised.value), f"not taken for a misfit: {raised.value}"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("invalid literal for int() with base 10: 'x'"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("the sensor did not answer"),
        AssertionError("checksum differs"),
        AssertionError(),
    ],
)
def test_what_the_model_itself_raises_is_its_own_failure(error: Exception) -> None:
    assert misfit_message(error) is None


def test_of_torchscripts_traceback_only_the_last_words_are_told(tmp_path: Any) -> None:
    save_script(nn.Sequential(nn.Linear(4, 3)), tmp_path)
    with pytest.warns(DeprecationWarning, match="torch.jit.load"):
        loaded = torch.jit.load(str(tmp_path / "model.pt"))
    with pytest.raises(RuntimeError) as raised:
        loaded(ones(2, 5))
    assert misfit_message(raised.value) == "mat1 and mat2 shapes cannot be multiplied (2x5 and 4x3)"
