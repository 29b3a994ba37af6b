"""What every peer is told. No import of ours: the peers' environments do not have Ladle."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import joblib


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--http_port", type=int, default=0)
    parser.add_argument("--grpc_port", type=int, default=0)
    parser.add_argument("--models", type=Path, required=True)
    arguments, _ = parser.parse_known_args()
    return arguments


def iris(models: Path) -> Any:
    return joblib.load(models / "iris" / "model.joblib")
