"""`python -m benchmarks.gpu`: runtimes and devices agree. On a machine without a GPU, that it says why there is none."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; .ci/test-torch installs it where it can be had")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from benchmarks.gpu import NO_GPU, main  # noqa: E402  # They need torch.

SMALL = ["--image=16", "--width=4", "--batches=1,4", "--seconds=0", "--threads=1"]
HAS_GPU = {
    "ONNX": "CUDAExecutionProvider" in onnxruntime.get_available_providers() and torch.cuda.is_available(),
    "PyTorch": torch.cuda.is_available(),
}


def test_both_runtimes_agree_on_every_device_that_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(SMALL) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("| ONNX", "| PyTorch"))]
    for runtime, has_gpu in HAS_GPU.items():
        assert sum(row.startswith(f"| {runtime} | cpu |") for row in rows) == 2
        used = sum(row.startswith(f"| {runtime} | cuda") and "not used" not in row for row in rows)
        assert used == (2 if has_gpu else 0)
    reasons = [row for row in rows if "not used: " in row]
    assert len(reasons) == list(HAS_GPU.values()).count(False)
    assert all(len(row.partition("not used: ")[2]) > len(" |") for row in reasons)


@pytest.mark.skipif(all(HAS_GPU.values()), reason="here both runtimes have a GPU")
def test_a_required_gpu_that_is_not_there_is_an_error() -> None:
    assert main([*SMALL, "--require-gpu"]) == NO_GPU
