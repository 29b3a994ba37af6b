"""Trains a small CNN on scikit-learn's digits and writes what serving it takes: model/model.onnx, a picture, its request, and
inferenceservice.yaml with the model's real path. `python train.py [DIRECTORY]`; build/ beside this file unless told.
"""

import base64
import io
import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

HERE = Path(__file__).parent
BRIGHTEST = 16
"""Of a pixel in scikit-learn's digits; in a PNG it is 255."""
ROWS_LEFT_OUT = 100
"""The first ones, which nothing is trained on."""
STEPS = 80


def train() -> torch.nn.Module:
    """A network that takes `(batch, 1, 8, 8)` from 0 to 1 and gives `(batch, 10)` probabilities."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(16, 32, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(32 * 4 * 4, 10),
    )
    images, labels = load_digits().images[ROWS_LEFT_OUT:], load_digits().target[ROWS_LEFT_OUT:]
    pixels = torch.tensor(images / BRIGHTEST, dtype=torch.float32).unsqueeze(1)
    wanted = torch.tensor(labels, dtype=torch.long)
    optimizer = torch.optim.Adam(layers.parameters(), lr=0.01)
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(layers(pixels), wanted).backward()
        optimizer.step()
    return torch.nn.Sequential(layers, torch.nn.Softmax(dim=1)).eval()


def picture(index: int) -> bytes:
    """A PNG of 8 x 8 grey pixels."""
    pixels = np.round(load_digits().images[index] * 255 / BRIGHTEST).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def main(build: Path) -> None:
    model = build / "model"
    model.mkdir(parents=True, exist_ok=True)
    # PyTorch's newer exporter (dynamo=True) needs onnxscript as well; a network as plain as this one needs neither.
    torch.onnx.export(
        train(),
        (torch.zeros(1, 1, 8, 8),),
        str(model / "model.onnx"),
        dynamo=False,
        input_names=["image"],
        output_names=["probabilities"],
        dynamic_axes={"image": {0: "batch"}, "probabilities": {0: "batch"}},
    )
    (build / "digit.png").write_bytes(picture(0))
    body = {"instances": [{"image": {"b64": base64.b64encode(picture(0)).decode()}}]}
    (build / "input.json").write_text(json.dumps(body))
    manifest = (HERE / "inferenceservice.yaml").read_text()
    (build / "inferenceservice.yaml").write_text(manifest.replace("file:///MODEL_DIR", model.resolve().as_uri()))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "build")
