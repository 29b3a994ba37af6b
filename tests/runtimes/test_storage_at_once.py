"""What a storage initializer may do without being a process: links, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from runtimes.storage.at_once import attempt

Source = Callable[[Path], str]


def model(directory: Path) -> Path:
    directory.mkdir()
    (directory / "model.joblib").write_text("weights")
    (directory / "more").mkdir()
    (directory / "more" / "labels.txt").write_text("a b")
    return directory


def archive(directory: Path) -> str:
    with tarfile.open(directory / "model.tar", "w") as tar:
        tar.add(model(directory / "packed"), "model")
    return f"file://{directory}/model.tar"


def pinned(directory: Path) -> str:
    return f"file://{model(directory / 'm')}/model.joblib#sha256={'0' * 64}"


def empty(directory: Path) -> str:
    (directory / "m").mkdir()
    return f"{directory}/m"


def tree(directory: Path) -> dict[str, str | None]:
    """Every path below it, and where it leads if it is a link."""
    found = directory.rglob("*")
    return {str(path.relative_to(directory)): os.readlink(path) if path.is_symlink() else None for path in found}


def by_process(*argv: str) -> list[dict[str, object]]:
    """The lines of a real initializer's log."""
    command = [sys.executable, "-m", "runtimes.storage", *argv]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [json.loads(line) for line in ended.stderr.splitlines()]


@pytest.mark.parametrize("form", ["file://{}", "{}", "file://{}/model.joblib"])
def test_it_leaves_what_the_process_leaves_links_and_words(tmp_path: Path, form: str) -> None:
    source = form.format(model(tmp_path / "m"))
    here, there = tmp_path / "here", tmp_path / "there"
    said = attempt([source, str(here)], {})
    assert said is not None
    lines = [json.loads(line) for line in said.splitlines()]
    expected = by_process(source, str(there))
    assert tree(here) == tree(there)
    assert [line.keys() for line in lines] == [line.keys() for line in expected]
    assert (lines[0]["event"], lines[0]["source"]) == (expected[0]["event"], source)


def test_several_sources_have_a_line_each(tmp_path: Path) -> None:
    first, second = model(tmp_path / "a"), model(tmp_path / "b")
    said = attempt([str(first), str(tmp_path / "1"), str(second), str(tmp_path / "2")], {})
    assert said is not None
    assert [json.loads(line)["source"] for line in said.splitlines()] == [str(first), str(second)]


@pytest.mark.parametrize(
    "source",
    [
        archive,
        pinned,
        empty,
        lambda folder: f"{folder}/nothing-there",
        lambda _: "file://elsewhere/models",
        lambda _: "https://example.invalid/model.joblib",
        lambda _: "s3://bucket/model",
        lambda _: "oci://image",
    ],
)
def test_whatever_is_more_than_links_takes_the_process(tmp_path: Path, source: Source) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    assert attempt([source(folder), str(tmp_path / "to")], {}) is None


def test_patterns_take_the_process_since_they_read_whole_trees(tmp_path: Path) -> None:
    assert attempt([str(model(tmp_path / "m")), str(tmp_path / "to")], {"STORAGE_ALLOW_PATTERNS": "*.joblib"}) is None


@pytest.mark.parametrize("argv", [[], ["file:///m"]])
def test_arguments_that_make_no_sense_are_the_processs_to_refuse(argv: list[str]) -> None:
    assert attempt(argv, {}) is None


def test_the_process_goes_on_where_it_gave_up(tmp_path: Path) -> None:
    first, second = model(tmp_path / "a"), archive(tmp_path)
    argv = [str(first), str(tmp_path / "1"), second, str(tmp_path / "2")]
    assert attempt(argv, {}) is None
    by_process(*argv)
    assert tree(tmp_path / "1") == {"model.joblib": f"{first}/model.joblib", "more": f"{first}/more"}
    assert (tmp_path / "2" / "model" / "model.joblib").read_text() == "weights"
