"""`python -m runtimes.onnxserver --model_name NAME --model_dir DIR [--nthread N]`: serves an ONNX model."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from ladle.server.options import ServerOptions
from ladle.server.runtime import run_runtime
from runtimes.onnxserver.model import OnnxModel


def main(argv: Sequence[str]) -> int:
    """Serves until SIGTERM; 1 where the model cannot be loaded, with the reason in the termination log."""
    return run_runtime(argv, build_model)


def build_model(options: ServerOptions, env: Mapping[str, str]) -> OnnxModel:
    """The model that the options and the environment describe."""
    return OnnxModel(options.model_name, options.model_directory, threads=options.native_threads, env=env)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
