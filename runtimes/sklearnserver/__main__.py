"""`python -m runtimes.sklearnserver --model_name NAME --model_dir DIR`: serves a scikit-learn model."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from functools import partial

from ladle.server.model import Model
from ladle.server.model_folders import ModelFolders, has_file, plan_models
from ladle.server.options import ServerOptions
from ladle.server.runtime import run_runtime
from runtimes.sklearnserver.model import EXTENSIONS, SklearnModel
from runtimes.sklearnserver.settings import SklearnSettings


def main(argv: Sequence[str]) -> int:
    """Serves until SIGTERM; 1 where the model cannot be loaded, with the reason in the termination log."""
    # A model that was trained on a table and is asked with a list: true, known, and once for every request.
    warnings.filterwarnings("ignore", message="X does not have valid feature names")
    return run_runtime(argv, build_model)


def build_model(options: ServerOptions, env: Mapping[str, str]) -> Model | ModelFolders:
    """The model that the options describe, or the models in the directory's folders."""
    make = partial(SklearnModel, settings=SklearnSettings.from_environment(env))
    holds = partial(has_file, extensions=EXTENSIONS)
    return plan_models(options.model_name, ModelFolders(options.model_directory, holds, make))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
