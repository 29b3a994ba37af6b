"""`python -m transformer.tabular --model_name NAME --predictor_host HOST --model_dir DIR`: features in front of a predictor."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Mapping, Sequence

from ladle.server.options import ServerOptions, with_underscores
from ladle.server.runtime import run_runtime
from ladle.transformer.settings import PredictorSettings
from runtimes.sklearnserver.settings import SklearnSettings
from transformer.tabular.model import TabularTransformer


def main(argv: Sequence[str]) -> int:
    """Serves until SIGTERM; 1 where the pipeline cannot be loaded, with the reason in the termination log."""
    warnings.filterwarnings("ignore", message="X does not have valid feature names")
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--input_name", default="input-0", help="name of the predictor's input")
    flags, _ = parser.parse_known_args(with_underscores(argv))

    def build(options: ServerOptions, env: Mapping[str, str]) -> TabularTransformer:
        return TabularTransformer(
            options.model_name,
            PredictorSettings.parse(argv, env),
            directory=options.model_directory,
            files=SklearnSettings.from_environment(env),
            input_name=flags.input_name,
        )

    return run_runtime(argv, build)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
