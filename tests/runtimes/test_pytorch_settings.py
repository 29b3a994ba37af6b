"""The PyTorch runtime's settings: devices and why they fall back, threads, declared inputs. Without torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ladle.errors import UserError
from ladle.protocol.messages import TensorMetadata
from runtimes.pytorchserver.devices import Machine, decide_device
from runtimes.pytorchserver.settings import TorchFlags, TorchSettings, parse_inputs
from runtimes.pytorchserver.threads import decide_threads

CPU_BUILD = Machine(torch_version="2.13.0+cpu", cuda_version=None, devices=0, gpu_present=False)
CPU_BUILD_ON_GPU = Machine(torch_version="2.13.0+cpu", cuda_version=None, devices=0, gpu_present=True)
BROKEN = Machine(torch_version="2.13.0", cuda_version="13.0", devices=0, gpu_present=True)
TWO = Machine(torch_version="2.13.0", cuda_version="13.0", devices=2, gpu_present=True)


class TestDevices:
    @pytest.mark.parametrize(
        ("wish", "machine", "device", "reason"),
        [
            ("auto", CPU_BUILD, "cpu", ""),
            ("auto", CPU_BUILD_ON_GPU, "cpu", "has no CUDA; install a build of torch that has it"),
            ("auto", BROKEN, "cpu", "finds no usable GPU; see nvidia-smi"),
            ("auto", TWO, "cuda:0", ""),
            ("cpu", TWO, "cpu", ""),
            ("cuda", CPU_BUILD, "cpu", "the installed torch 2.13.0+cpu has no CUDA"),
            ("cuda", TWO, "cuda:0", ""),
            ("cuda:1", TWO, "cuda:1", ""),
            ("cuda:2", TWO, "cpu", "cuda:2 is not there, the machine has 2 CUDA device(s)"),
        ],
    )
    def test_the_best_that_is_there_with_the_reason_if_it_is_not_the_wish(
        self, wish: str, machine: Machine, device: str, reason: str
    ) -> None:
        choice = decide_device(wish, machine)
        assert choice.device == device
        assert reason in choice.reason
        assert bool(reason) == bool(choice.reason)

    @pytest.mark.parametrize("wish", ["gpu", "cuda:", "cuda:x", "mps", "cuda:-1"])
    def test_another_word_is_refused(self, wish: str) -> None:
        with pytest.raises(UserError, match=f"LADLE_TORCH_DEVICE = {wish}, must be auto, cpu, cuda or cuda:N"):
            decide_device(wish, TWO)


class TestThreads:
    @pytest.mark.parametrize(
        ("flag", "env", "cpu_max", "expected"),
        [
            (3, {"OMP_NUM_THREADS": "8"}, "", 3),
            (0, {}, "", 1),
            (None, {"OMP_NUM_THREADS": "8"}, "100000 100000", 8),
            (None, {}, "50000 100000", 1),
            (None, {"OMP_NUM_THREADS": "many"}, "100000 100000\n", 1),
        ],
    )
    def test_flag_then_environment_then_limit(
        self, flag: int | None, env: dict[str, str], cpu_max: str, expected: int
    ) -> None:
        assert decide_threads(flag, env, cpu_max=cpu_max) == expected

    @pytest.mark.parametrize("cpu_max", ["", "max 100000"])
    def test_without_a_limit_the_cpus_that_there_are(self, cpu_max: str) -> None:
        assert decide_threads(None, {}, cpu_max=cpu_max) == len(os.sched_getaffinity(0))


class TestSettings:
    def test_flags_of_kserve_and_the_environment(self) -> None:
        flags = TorchFlags.parse(["--model_name=x", "--model-class-name", "Net", "--nthread=2", "--unknown"])
        env = {"LADLE_TORCH_DEVICE": "CPU", "LADLE_ALLOW_PICKLE": "false", "LADLE_TORCH_WARMUP": "3"}
        settings = TorchSettings.from_environment(env, flags=flags)
        assert settings == TorchSettings(model_class="Net", device="cpu", threads=2, allow_code=False, warm_up=3)
        assert TorchSettings.from_environment({}).model_class == "PyTorchModel"

    @pytest.mark.parametrize(
        ("text", "backend"), [("", ""), ("false", ""), ("true", "inductor"), ("aot_eager", "aot_eager")]
    )
    def test_the_compiler(self, text: str, backend: str) -> None:
        assert TorchSettings.from_environment({"LADLE_TORCH_COMPILE": text}).compiler == backend

    def test_declared_inputs(self) -> None:
        assert parse_inputs("image:FP32:-1,1,28,28; mask:BOOL:-1;") == (
            TensorMetadata("image", "FP32", (-1, 1, 28, 28)),
            TensorMetadata("mask", "BOOL", (-1,)),
        )

    @pytest.mark.parametrize("text", ["image", "image:FP32", "image:FP32:a", "image:FLOAT:1", "image:BYTES:1"])
    def test_declared_inputs_that_cannot_be_read_show_the_form(self, text: str) -> None:
        with pytest.raises(UserError, match=r"LADLE_TORCH_INPUTS: .*must be"):
            parse_inputs(text)


def test_without_pytorch_the_server_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; from runtimes.pytorchserver.__main__ import main; sys.exit(main([]))"
    )
    env = {**os.environ, "LADLE_TERMINATION_LOG": str(tmp_path / "log")}
    ended = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "needs torch, which is not installed here: pip install 'ladle[pytorch]'" in (tmp_path / "log").read_text()
