"""`python -m runtimes.lgbserver --model_name NAME --model_dir DIR [--nthread N]`: serves a LightGBM model."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from ladle.server.options import ServerOptions
from ladle.server.runtime import run_runtime
from runtimes.lgbserver.model import LightGBMModel


def main(argv: Sequence[str]) -> int:
    """Serves until SIGTERM; 1 where the model cannot be loaded, with the reason in the termination log."""
    return run_runtime(argv, build_model)


def build_model(options: ServerOptions, _: Mapping[str, str]) -> LightGBMModel:
    """The model that the options describe."""
    return LightGBMModel(options.model_name, options.model_directory, threads=options.native_threads)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
