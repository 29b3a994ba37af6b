"""Reading logs: which file, which part of it, which container."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebox.apiserver.logs import (
    LogOptions,
    choose_container,
    log_file,
    parse_log_options,
    read_log,
    read_more,
    waiting_reason,
)
from onebox.apiserver.status import Refused


def _pod(containers: list[str], init: list[str] | None = None, **status: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": name} for name in containers]}
    if init:
        spec["initContainers"] = [{"name": name} for name in init]
    return {"metadata": {"name": "p"}, "spec": spec, "status": status}


@pytest.mark.parametrize(
    ("text", "lines", "wanted"),
    [
        ("a\nb\nc\n", 2, "b\nc\n"),
        ("a\nb\nc", 2, "b\nc"),
        ("a\nb\n", 9, "a\nb\n"),
        ("a\nb\n", 0, ""),
        ("", 3, ""),
        ("\n\n\n", 2, "\n\n"),
        ("x" * 200_000 + "\nend\n", 1, "end\n"),
        ("first\n" + "x" * 200_000 + "\n", 1, "x" * 200_000 + "\n"),
    ],
)
def test_the_last_lines_are_found_from_the_end(tmp_path: Path, text: str, lines: int, wanted: str) -> None:
    path = tmp_path / "0.log"
    path.write_text(text)
    content, offset = read_log(path, LogOptions(tail_lines=lines))
    assert content.decode() == wanted
    assert offset == len(text)


@given(text=st.text(alphabet="ab\n", max_size=40), lines=st.integers(0, 12))
def test_the_tail_is_what_splitting_lines_gives(
    tmp_path_factory: pytest.TempPathFactory, text: str, lines: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "tail.log"
    path.write_text(text)
    content, _ = read_log(path, LogOptions(tail_lines=lines))
    split = text.splitlines(keepends=True)
    assert content.decode() == "".join(split[len(split) - lines :] if lines < len(split) else split)


def test_bytes_are_limited_and_old_files_are_silent(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text("abcdef")
    assert read_log(path, LogOptions(limit_bytes=3))[0] == b"abc"
    os.utime(path, (100, 100))
    assert read_log(path, LogOptions(since_s=200))[0] == b""
    assert read_log(path, LogOptions(since_s=50))[0] == b"abcdef"
    assert read_more(path, 4) == b"ef"
    assert read_more(tmp_path / "none", 0) == b""


def test_the_newest_start_is_read_and_the_one_before_it_on_request(tmp_path: Path) -> None:
    assert log_file(tmp_path, previous=False) is None
    for name in ("2.log", "9.log", "10.log", "notes.txt"):
        (tmp_path / name).touch()
    newest, previous = log_file(tmp_path, previous=False), log_file(tmp_path, previous=True)
    assert newest is not None
    assert previous is not None
    assert (newest.name, previous.name) == ("10.log", "9.log")


def test_the_container_is_chosen_or_asked_for() -> None:
    assert choose_container(_pod(["only"]), "") == "only"
    assert choose_container(_pod(["a", "b"], ["i"]), "i") == "i"
    with pytest.raises(Refused) as refused:
        choose_container(_pod(["a", "b"], ["i"]), "")
    assert refused.value.message == (
        "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
    )
    pod = _pod(["a", "b"])
    pod["metadata"]["annotations"] = {"kubectl.kubernetes.io/default-container": "b"}
    assert choose_container(pod, "") == "b"


def test_options_are_checked() -> None:
    options = parse_log_options({"tailLines": "5", "sinceSeconds": "10", "follow": "true"}, now_s=100.0)
    assert options == LogOptions(tail_lines=5, since_s=90.0, follow=True)
    for query in ({"tailLines": "-1"}, {"limitBytes": "0"}, {"sinceSeconds": "0"}, {"tailLines": "many"}):
        with pytest.raises(Refused):
            parse_log_options(query, now_s=100.0)


def test_why_there_is_no_log_yet() -> None:
    waiting = {"name": "a", "state": {"waiting": {"reason": "ErrImagePull"}}}
    assert waiting_reason(_pod(["a"], containerStatuses=[waiting]), "a") == "ErrImagePull"
    restarted = {**waiting, "restartCount": 2}
    assert waiting_reason(_pod(["a"], containerStatuses=[restarted]), "a") is None
    assert waiting_reason(_pod(["a"]), "a") is None
