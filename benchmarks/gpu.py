"""One model in the ONNX and the PyTorch runtime, on the CPU and on a GPU: do they agree, and how fast are they?

    python -m benchmarks.gpu [--require-gpu]

Needs torch and onnx, and for the GPU's half a torch with CUDA and onnxruntime-gpu; nothing is downloaded. Where a runtime
falls back to the CPU, its reason is printed instead of figures. Exit code 1: answers differ; 2: a GPU was required and is
not used.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ladle.protocol.messages import InferRequest
from ladle.protocol.tensor import tensor_of
from ladle.server.model import Model

TOLERANCE = 0.02
"""Largest difference, in standard deviations of all answers. GPUs may multiply FP32 with the ten bits of TF32."""
DISAGREE, NO_GPU = 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to measure."""

    image: int
    """Pixels of a side."""
    width: int
    """Channels of the first block."""
    batches: tuple[int, ...]
    seconds: float
    """How long each batch size is asked."""
    threads: int
    """Of either library on the CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One runtime on one device with one batch size."""

    batch: int
    images_per_s: float
    p50_ms: float


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parser().parse_args(argv)
    batches = tuple(int(size) for size in flags.batches.split(","))
    options = Options(
        image=flags.image, width=flags.width, batches=batches, seconds=flags.seconds, threads=flags.threads
    )
    with tempfile.TemporaryDirectory() as root:
        directory = Path(root)
        save_models(directory, options)
        return compare(directory, options, require_gpu=flags.require_gpu)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("--image", type=int, default=224, help="pixels of a side (224)")
    parser.add_argument("--width", type=int, default=64, help="channels of the first block (64)")
    parser.add_argument("--batches", default="1,8,64", help="images a request (1,8,64)")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each row of the table (3)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="on the CPU (all)")
    parser.add_argument("--require-gpu", action="store_true", help="fail where a runtime falls back to the CPU")
    return parser


def save_models(directory: Path, options: Options) -> None:
    """The same network, with the same weights, as TorchScript and as ONNX."""
    import torch

    torch.manual_seed(0)
    network = build_network(options.width)
    example = torch.from_numpy(make_images(16, options.image))
    with torch.no_grad():
        for _ in range(20):  # In training, batch norms learn what the layers give, and answers come to differ by image.
            network(example)
    network.eval()
    for kind in ("torch", "onnx"):
        (directory / kind).mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Both exporters are deprecated; the new one needs another package.
        torch.jit.save(torch.jit.trace(network, example), str(directory / "torch" / "model.pt"))
        torch.onnx.export(
            network,
            (example,),
            str(directory / "onnx" / "model.onnx"),
            dynamo=False,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "rows"}, "y": {0: "rows"}},
        )


def build_network(width: int) -> Any:
    """A convolutional classifier of images with ten classes, of the size of a small ResNet."""
    import torch

    layers: list[Any] = [torch.nn.Conv2d(3, width, 7, stride=2, padding=3), torch.nn.ReLU()]
    for factor in (1, 2, 4):
        inner, outer = width * factor, width * factor * 2
        layers += [torch.nn.Conv2d(inner, outer, 3, stride=2, padding=1), torch.nn.BatchNorm2d(outer), torch.nn.ReLU()]
        layers += [torch.nn.Conv2d(outer, outer, 3, padding=1), torch.nn.ReLU()]
    head = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(width * 8, 10)]
    return torch.nn.Sequential(*layers, *head)


def make_images(count: int, size: int) -> np.ndarray:
    """Noise of different strength and colour: noise alone looks the same to a network."""
    rng = np.random.default_rng(0)
    images: np.ndarray = rng.random((count, 3, 1, 1)) * rng.random((count, 3, size, size))
    return images.astype(np.float32)


def onnx_model(directory: Path, device: str, threads: int) -> Model:
    from runtimes.onnxserver.model import OnnxModel

    return OnnxModel("onnx", directory / "onnx", threads=threads, env={"LADLE_ONNX_PROVIDER": device})


def torch_model(directory: Path, device: str, threads: int) -> Model:
    from runtimes.pytorchserver.model import TorchModel
    from runtimes.pytorchserver.settings import TorchSettings

    return TorchModel("torch", directory / "torch", settings=TorchSettings(device=device, threads=threads))


def compare(directory: Path, options: Options, *, require_gpu: bool) -> int:
    """Prints the table; the exit code."""
    images = make_images(max(options.batches), options.image)
    makers: dict[str, Callable[[Path, str, int], Model]] = {"ONNX": onnx_model, "PyTorch": torch_model}
    reference: np.ndarray | None = None
    code = 0
    print("| runtime | device | images a request | images/s | p50, ms | largest difference | same class |")
    print("|---|---|---|---|---|---|---|")
    for name, make in makers.items():
        for device in ("cpu", "cuda"):
            model = make(directory, device, options.threads)
            model.load()
            properties = model.metadata().properties
            if not properties["device"].startswith(device):
                print(f"| {name} | {device} | not used: {properties['device_reason']} |")
                code = max(code, NO_GPU) if require_gpu else code
                continue
            found = ask(model, images)
            reference = found if reference is None else reference
            difference, same = (
                float(np.abs(found - reference).max() / reference.std()),
                float((found.argmax(1) == reference.argmax(1)).mean()),
            )
            code = max(code, DISAGREE) if difference > TOLERANCE else code
            for batch in options.batches:
                row = measure(model, images[:batch], options.seconds)
                print(
                    f"| {name} | {properties['device']} | {row.batch} | {row.images_per_s:.0f} | {row.p50_ms:.2f} "
                    f"| {difference:.1e} | {same:.0%} |",
                    flush=True,
                )
            model.unload()
    return code


def ask(model: Model, images: np.ndarray) -> np.ndarray:
    """The model's answer to one V2 request."""
    name = model.metadata().inputs[0].name
    (output,) = model.predict(InferRequest(model_name=model.name, inputs=(tensor_of(name, images),)))
    answered: np.ndarray = output.array
    return answered


def measure(model: Model, images: np.ndarray, seconds: float) -> Figures:
    """One request after the other for `seconds`, after three that do not count."""
    for _ in range(3):
        ask(model, images)
    took_s: list[float] = []
    until_s = time.perf_counter() + seconds
    while not took_s or time.perf_counter() < until_s:
        began_s = time.perf_counter()
        ask(model, images)
        took_s.append(time.perf_counter() - began_s)
    rate = len(images) * len(took_s) / sum(took_s)
    return Figures(batch=len(images), images_per_s=rate, p50_ms=1000 * statistics.median(took_s))


if __name__ == "__main__":
    sys.exit(main())
