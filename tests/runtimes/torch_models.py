"""Models of PyTorch for tests, and their archives. Import only where torch is there."""

from __future__ import annotations

import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

torch.set_num_threads(
    1
)  # Tests share their CPUs; a spinning OpenMP thread would keep the one that it waits for from them.
DIGITS_CLASS = '''
import torch


class PyTorchModel(torch.nn.Module):
    """Which digit an image of 8 by 8 pixels shows; rows of 64 numbers from 0 to 1."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Unflatten(1, (1, 8, 8)),
            torch.nn.Conv2d(1, 8, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Flatten(),
            torch.nn.Linear(128, 10),
        )

    def forward(self, pixels):
        return self.layers(pixels).softmax(1)
'''
"""The source of the small CNN, as it would lie beside its weights."""


@lru_cache
def digits() -> tuple[Any, np.ndarray, np.ndarray]:
    """The CNN, trained for a second on scikit-learn's digits; all images as rows, and their labels."""
    images, labels = load_digits(return_X_y=True)
    pixels = (images / 16).astype(np.float32)
    namespace: dict[str, Any] = {"__name__": "digits"}
    exec(DIGITS_CLASS, namespace)
    torch.manual_seed(0)
    model = namespace["PyTorchModel"]()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    inputs, wanted = torch.from_numpy(pixels), torch.from_numpy(labels)
    for _ in range(12):
        for at in range(0, len(inputs), 128):
            optimizer.zero_grad()
            loss = torch.nn.functional.nll_loss(model(inputs[at : at + 128]).log(), wanted[at : at + 128])
            loss.backward()
            optimizer.step()
    return model.eval(), pixels, labels


def answer(model: Any, *inputs: Any) -> Any:
    """What PyTorch itself says."""
    with torch.inference_mode():
        return model(*(torch.tensor(rows) for rows in inputs))


def save_script(model: Any, directory: Path, *, example: tuple[Any, ...] | None = None) -> Path:
    """As TorchScript: traced with an example, else scripted."""
    directory.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit as a whole.
        made = torch.jit.trace(model.eval(), example) if example else torch.jit.script(model.eval())
        torch.jit.save(made, str(directory / "model.pt"))
    return directory


def save_export(model: Any, directory: Path, example: tuple[Any, ...], dynamic: Any = None) -> Path:
    """As an archive of torch.export; `dynamic` as its dynamic_shapes."""
    directory.mkdir(parents=True, exist_ok=True)
    torch.export.save(torch.export.export(model.eval(), example, dynamic_shapes=dynamic), str(directory / "model.pt2"))
    return directory


def save_weights(model: Any, directory: Path, source: str) -> Path:
    """As a state_dict beside the source of its class."""
    directory.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), directory / "model.pt")
    (directory / "net.py").write_text(source)
    return directory
