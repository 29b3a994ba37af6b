"""A PyTorch model behind V1, V2 and gRPC."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ladle.errors import BadModel, InvalidInput
from ladle.log import get_logger
from ladle.protocol.messages import InferRequest, ModelMetadata, TensorMetadata
from ladle.protocol.tensor import Tensor
from ladle.server.model import Model
from runtimes.gpu import gpu_present
from runtimes.pytorchserver.compiling import compile_program
from runtimes.pytorchserver.datatypes import default_datatype, looks_up, to_protocol
from runtimes.pytorchserver.devices import CPU, DeviceChoice, Machine, decide_device
from runtimes.pytorchserver.export import read_export
from runtimes.pytorchserver.failures import misfit_message
from runtimes.pytorchserver.files import find_archive, model_folder
from runtimes.pytorchserver.inputs import Binder
from runtimes.pytorchserver.model_class import read_model_class
from runtimes.pytorchserver.outputs import named_outputs
from runtimes.pytorchserver.program import Argument, Kind, Program
from runtimes.pytorchserver.settings import INPUTS_VARIABLE, TorchSettings
from runtimes.pytorchserver.torchscript import read_torchscript

log = get_logger(__name__)


class TorchModel(Model):
    """The one archive in a directory, or in its newest version folder, as Triton's repositories have it."""

    def __init__(self, name: str, directory: Path, *, settings: TorchSettings | None = None) -> None:
        super().__init__(name)
        self._directory = directory
        self._settings = settings or TorchSettings()
        # Archives keep nothing between calls. A class of the user's own may, in its attributes.
        self.thread_safe = not any(model_folder(directory).glob("*.py"))
        self._program: Program | None = None
        self._binder: Binder | None = None
        self._choice = DeviceChoice(CPU)
        self._outputs: tuple[TensorMetadata, ...] = ()

    def load(self) -> None:
        torch.set_num_threads(self._settings.threads)
        self._choice = decide_device(self._settings.device, machine())
        if self._choice.reason:
            log.warning("device fell back", model=self.name, device=self._choice.device, reason=self._choice.reason)
        program = with_declared_inputs(self._read(), self._settings.inputs)
        self._binder = Binder(
            program,
            device=self._choice.device,
            plain_datatype=default_datatype(program.module),
            integers_stay=looks_up(program.module),
        )
        self._program = self._compiled(program, self._binder)
        self._outputs = program.outputs
        self._warm_up()

    def predict(self, request: InferRequest) -> Any:
        assert self._program is not None, "the server asks only a model that is loaded"
        assert self._binder is not None
        values = self._binder.bind(request)
        result = self._run(self._program, values)
        outputs = [to_protocol(name, value) for name, value in named_outputs(result).items()]
        return _uneven_v1(outputs) if request.is_v1 else outputs

    def metadata(self) -> ModelMetadata:
        assert self._program is not None, "the server asks only a model that is loaded"
        return ModelMetadata(
            name=self.name,
            platform="pytorch_torchscript" if self._program.kind is Kind.TORCHSCRIPT else "pytorch",
            inputs=tuple(self._described(argument) for argument in self._program.arguments),
            outputs=self._outputs,
            properties=self._properties(self._program),
        )

    def unload(self) -> None:
        self._program = self._binder = None
        if self._choice.device != CPU:
            torch.cuda.empty_cache()  # Else PyTorch keeps the memory, and the next process on this GPU lacks it.

    def _read(self) -> Program:
        path, kind = find_archive(self._directory)
        device, allow_code = self._choice.device, self._settings.allow_code
        if kind is Kind.TORCHSCRIPT:
            return read_torchscript(path, device)
        if kind is Kind.STATE_DICT:
            return read_model_class(path, self._settings.model_class, device, allow_code=allow_code)
        if not allow_code:
            raise BadModel(
                f"{path.name} is an archive of torch.export, which PyTorch unpickles and evaluates parts of, and "
                "LADLE_ALLOW_PICKLE is false; save the model with torch.jit.save, or as ONNX"
            )
        return read_export(path, device)

    def _run(self, program: Program, values: dict[str, Any]) -> Any:
        try:
            with torch.inference_mode():
                return program.run(values)
        except (RuntimeError, ValueError, IndexError, AssertionError, TypeError) as error:
            message = misfit_message(error)
            if message is None:
                raise
            raise InvalidInput(message) from error

    def _compiled(self, program: Program, binder: Binder) -> Program:
        if not self._settings.compiler:
            return program
        if program.kind is not Kind.TORCHSCRIPT and not program.shapes_known:
            raise BadModel(f"LADLE_TORCH_COMPILE needs the shapes of the inputs: set {INPUTS_VARIABLE}")
        compiled, reason = compile_program(program, self._settings.compiler, binder.zeros)
        compiled.properties["compiler"] = "none" if reason else self._settings.compiler
        if reason:
            compiled.properties["compiler_reason"] = reason
            log.warning("not compiled", model=self.name, reason=reason)
        return compiled

    def _warm_up(self) -> None:
        """Predictions on zeros: they show a wrong declaration at once, and what comes out."""
        assert self._program is not None
        assert self._binder is not None
        runs = max(self._settings.warm_up, 1 if self._settings.inputs else 0)
        if runs and not self._program.shapes_known:
            raise BadModel(
                f"LADLE_TORCH_WARMUP needs the shapes of the inputs, which the file does not say: set {INPUTS_VARIABLE}"
            )
        for _ in range(runs):
            try:
                named = named_outputs(self._run(self._program, self._binder.zeros()))
            except InvalidInput as error:
                raise BadModel(f"{INPUTS_VARIABLE} does not fit the model: {error.message}") from error
            if not self._outputs or self._program.kind is not Kind.EXPORT:
                self._outputs = tuple(_seen(to_protocol(name, value)) for name, value in named.items())

    def _described(self, argument: Argument) -> TensorMetadata:
        assert self._program is not None
        guessed = "INT64" if looks_up(self._program.module) else default_datatype(self._program.module)
        return TensorMetadata(
            argument.name, argument.datatype or guessed, (-1,) if argument.shape is None else argument.shape
        )

    def _properties(self, program: Program) -> dict[str, str]:
        properties = {
            "engine": "torch",
            "version": torch.__version__,
            "archive": program.kind.value,
            "device": self._choice.device,
            "threads": str(self._settings.threads),
            **program.properties,
        }
        if self._choice.reason:
            properties["device_reason"] = self._choice.reason
        if not program.shapes_known:
            properties["inputs"] = f"the file holds no shapes; {INPUTS_VARIABLE} declares them"
        return properties


def machine() -> Machine:
    """What PyTorch finds here."""
    return Machine(
        torch_version=torch.__version__,
        cuda_version=torch.version.cuda,
        devices=torch.cuda.device_count() if torch.cuda.is_available() else 0,
        gpu_present=gpu_present(),
    )


def with_declared_inputs(program: Program, declared: tuple[TensorMetadata, ...]) -> Program:
    """The program with what LADLE_TORCH_INPUTS says about its arguments; BadModel for names that it has not."""
    if not declared:
        return program
    by_name = {item.name: item for item in declared}
    known = {argument.name for argument in program.arguments}
    if not program.any_inputs and not known.issuperset(by_name):
        raise BadModel(f"{INPUTS_VARIABLE} names {sorted(set(by_name) - known)}, the model has {sorted(known)}")
    arguments = program.arguments or tuple(Argument(name=name) for name in by_name)
    return replace(
        program,
        arguments=tuple(
            replace(argument, datatype=by_name[argument.name].datatype, shape=by_name[argument.name].shape)
            if argument.name in by_name
            else argument
            for argument in arguments
        ),
    )


def _seen(tensor: Tensor) -> TensorMetadata:
    """What a prediction for one row shows of an output; its first dimension is taken for the rows."""
    return TensorMetadata(tensor.name, tensor.datatype.name, (-1, *tensor.shape[1:]))


def _uneven_v1(outputs: list[Tensor]) -> Any:
    """V1 has one prediction for each row; outputs that disagree about the rows go by name instead."""
    if len({len(tensor.array) for tensor in outputs}) <= 1:
        return outputs
    return {"predictions": {tensor.name: tensor.array.tolist() for tensor in outputs}}
