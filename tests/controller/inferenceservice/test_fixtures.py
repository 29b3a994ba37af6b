"""What each of KServe's own manifests leads to, in files of ours: every child and the status once all is ready.

A file of fixtures/ holds a manifest and what is made of it, one object a line. After a change that is meant, write them again:

    LADLE_WRITE_FIXTURES=true python -m pytest tests/controller/inferenceservice/test_fixtures.py
"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from controller.base.errors import UserError
from controller.inferenceservice.forecast import render_once_ready
from tests.controller.inferenceservice.builders import SHARED

FIXTURES = Path(__file__).with_name("fixtures")
KSERVES = SHARED / "fixtures/kserve"
IS_WRITING = os.environ.get("LADLE_WRITE_FIXTURES") == "true"
JUDGED = ("InferenceService", "ServingRuntime", "ClusterServingRuntime")
"""Kinds that something is made of today; InferenceGraphs and TrainedModels in the same file belong to later parts."""


def on_a_cluster() -> list[dict[str, Any]]:
    folders = (files("manifests").joinpath("runtimes"), files("manifests").joinpath("runtimes", "images"))
    found = [yaml.safe_load(f.read_text()) for folder in folders for f in folder.iterdir() if f.name.endswith(".yaml")]
    return sorted(found, key=lambda item: str(item["metadata"]["name"]))


def made_of(offered: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines that follow `offered` in a file: what is rendered, or why nothing is."""
    try:
        return render_once_ready(offered, existing=on_a_cluster(), namespace="golden", with_status=True)
    except UserError as error:
        return [{"refused": error.message}]


def read(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    lines = [orjson.loads(line) for line in path.read_text().splitlines()]
    offered = [line["offered"] for line in lines if "offered" in line]
    return offered, [line for line in lines if "offered" not in line]


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.jsonl")), ids=lambda path: path.stem)
def test_a_manifest_of_kserves_leads_to_what_it_led_to(path: Path) -> None:
    offered, expected = read(path)
    assert orjson.loads(orjson.dumps(made_of(offered))) == expected


@pytest.mark.skipif(not KSERVES.exists(), reason="KServe's manifests are not here")
def test_every_manifest_of_kserves_has_its_file() -> None:
    seen = set()
    for source in sorted(KSERVES.glob("*.yaml")):
        documents = [item for item in yaml.load_all(source.read_text(), Loader=yaml.CSafeLoader) if item]
        offered = [item for item in documents if item["kind"] in JUDGED]
        target = FIXTURES / f"{source.stem}.jsonl"
        if not offered:
            continue
        seen.add(target)
        if IS_WRITING:
            lines = [*({"offered": item} for item in offered), *made_of(offered)]
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines))
        assert read(target)[0] == offered
    assert seen == set(FIXTURES.glob("*.jsonl"))
