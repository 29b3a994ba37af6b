"""`python -m transformer.image --model_name NAME --predictor_host HOST [--width 28 …]`: images in front of a predictor."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from ladle.server.options import ServerOptions
from ladle.server.runtime import run_runtime
from ladle.transformer.settings import PredictorSettings
from transformer.image.model import ImageTransformer
from transformer.image.settings import ImageSettings


def main(argv: Sequence[str]) -> int:
    """Serves until SIGTERM; 1 where a flag cannot be read, with the reason in the termination log."""

    def build(options: ServerOptions, env: Mapping[str, str]) -> ImageTransformer:
        predictor = PredictorSettings.parse(argv, env)
        return ImageTransformer(options.model_name, predictor, images=ImageSettings.parse(argv, os.environ))

    return run_runtime(argv, build)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
