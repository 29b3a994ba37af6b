"""Sessions of onnxruntime: their options from the environment, providers that fail, and errors in words that help."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ladle.errors import BadModel, UserError
from ladle.log import get_logger
from ladle.server.queue_settings import number
from runtimes.onnxserver.providers import CPU, ProviderChoice, decide_outcome

_LEVELS = ("all", "extended", "basic", "disable")
_LEVEL_VARIABLE = "LADLE_ONNX_OPTIMIZATION"
_ERRORS_ONLY = 3
"""onnxruntime's severity: its warnings are about the graph, and repeat at each load."""
_EXPLANATIONS = (
    (
        r"Opset (?P<found>\d+) is under development.*till opset (?P<most>\d+)",
        "it needs opset {found}, and onnxruntime {version} knows {most}: export it with opset_version={most}",
    ),
    (
        r"Unsupported model IR version: (?P<found>\d+), max supported IR version: (?P<most>\d+)",
        "its IR version is {found}, and onnxruntime {version} reads up to {most}: save it with ir_version={most}",
    ),
    (
        r"External data path does not exist: \"?(?P<path>[^\"]+)",
        "its external data file {path} is missing; it belongs beside the .onnx file",
    ),
    (
        r"External initializer: (?P<name>\S+) .*out of bounds",
        "its external data file is too short for the tensor {name}; the copy is not complete",
    ),
    (
        r"Fatal error: (?P<name>\S+?)\(-?\d+\) is not a registered function/op",
        "its operator {name} is not in onnxruntime {version}; operators of one's own are not served",
    ),
    (
        r"No Op registered for (?P<name>\S+) with domain_version of (?P<found>\d+)",
        "its operator {name} is not in onnxruntime {version} at opset {found}",
    ),
)
"""What onnxruntime says, and what that means for whoever made the file."""
_SOURCE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (\S+\.(cc|h):\d+ .*?\) (?=[A-Z]))?", re.DOTALL)
"""Where onnxruntime's own source says it; nobody's business but its authors'."""
_MISFIT = re.compile(r"INVALID_ARGUMENT|broadcast|dimensions?\b|shape|out of data bounds", re.IGNORECASE)
log = get_logger(__name__)


def session_options(onnxruntime: Any, env: Mapping[str, str], *, threads: int) -> Any:
    """SessionOptions for LADLE_ONNX_*; UserError where a value is none."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(number(env, "LADLE_ONNX_INTRA_OP_THREADS", threads))
    options.inter_op_num_threads = int(number(env, "LADLE_ONNX_INTER_OP_THREADS", 1))
    if options.inter_op_num_threads > 1:  # Which counts only where parts of the graph run beside each other.
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    level = env.get(_LEVEL_VARIABLE, "").strip().lower() or "all"
    if level not in _LEVELS:
        raise UserError(f"{_LEVEL_VARIABLE} = {level}, must be one of {', '.join(_LEVELS)}")
    name = "ORT_DISABLE_ALL" if level == "disable" else f"ORT_ENABLE_{level.upper()}"
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, name)
    options.log_severity_level = _ERRORS_ONLY
    return options


def open_session(onnxruntime: Any, path: Path, options: Any, choice: ProviderChoice) -> tuple[Any, ProviderChoice]:
    """A session for the file, and what it runs on; BadModel where onnxruntime cannot run the graph at all.

    By path and not by bytes: external data lies beside the file.
    """
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=list(choice.providers))
    except Exception as error:  # onnxruntime's own errors share no base but this one.
        if choice.providers == (CPU,):
            raise BadModel(f"{path.name}: {explain(str(error), onnxruntime.__version__)}") from error
        log.warning("provider failed, the CPU is tried", provider=choice.providers[0], error=str(error))
        reason = f"{choice.providers[0]} failed: {explain(str(error), onnxruntime.__version__)}"
        return open_session(onnxruntime, path, options, ProviderChoice((CPU,), reason))
    return session, decide_outcome(choice, session.get_providers())


def explain(error: str, version: str) -> str:
    """onnxruntime's message as what is wrong and what to do; without its source lines where nothing better is known."""
    for pattern, meaning in _EXPLANATIONS:
        match = re.search(pattern, error, re.DOTALL)
        if match:
            found = match.groupdict()
            if "path" in found:
                found["path"] = Path(found["path"]).name
            return meaning.format(version=version, **found)
    return _SOURCE.sub("", error)


def misfit_message(error: Exception) -> str | None:
    """What onnxruntime says about inputs that do not go together; None where the graph itself failed."""
    text = str(error)
    return _SOURCE.sub("", text) if "[ONNXRuntimeError]" in text and _MISFIT.search(text) else None
