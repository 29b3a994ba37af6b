"""`python -m runtimes.onnxserver --model_name NAME --model_dir DIR [--nthread N]`: serves an ONNX model."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial

from ladle.server.model import Model
from ladle.server.model_folders import ModelFolders, plan_models
from ladle.server.options import ServerOptions
from ladle.server.runtime import run_runtime
from runtimes.onnxserver.model import EXTENSIONS, OnnxModel, holds_model
from runtimes.version_folders import newest_version


def main(argv: Sequence[str]) -> int:
    """Serves until SIGTERM; 1 where the model cannot be loaded, with the reason in the termination log."""
    return run_runtime(argv, build_model)


def build_model(options: ServerOptions, env: Mapping[str, str]) -> Model | ModelFolders:
    """The model that the options and the environment describe, or the models in the directory's folders."""
    make = partial(OnnxModel, threads=options.native_threads, env=env)
    folders = ModelFolders(options.model_directory, holds_model, make)
    if len(folders.names()) == 1 and newest_version(options.model_directory, EXTENSIONS) != options.model_directory:
        return make(options.model_name, options.model_directory)  # Triton's repository with one model.
    return plan_models(options.model_name, folders)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
