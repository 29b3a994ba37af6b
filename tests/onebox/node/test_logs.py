"""Log files: how they stay small, and the last words in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from onebox.home import Home
from onebox.node import logs
from onebox.node.logs import PodLogs, read_termination_message, rotate
from tests.onebox.node.test_state import FULL


@pytest.fixture
def pod_logs(tmp_path: Path) -> PodLogs:
    return PodLogs(Home(tmp_path), FULL)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_logs_are_where_the_api_server_looks(pod_logs: PodLogs, tmp_path: Path) -> None:
    assert pod_logs.path("main", 3) == tmp_path / "logs/pods/ns_pod_uid/main/3.log"


def test_a_log_that_grew_too_large_is_cut_while_its_process_goes_on(
    pod_logs: PodLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "LOG_BYTES_MAX", 10)
    path = write(pod_logs.path("main", 0), "")
    small = write(pod_logs.path("other", 0), "small")
    with path.open("a") as process:
        for part in ("first and long", "second and long", "third and long", "fourth and long"):
            process.write(part)
            process.flush()
            pod_logs.rotate()
        process.write("now")
    assert path.read_text() == "now"
    assert (path.parent / "0.log.1").read_text() == "fourth and long"
    assert (path.parent / "0.log.2").read_text() == "third and long"
    assert sorted(each.name for each in path.parent.iterdir()) == ["0.log", "0.log.1", "0.log.2"]
    assert small.read_text() == "small"


def test_a_queue_proxy_inside_shares_the_runtimes_log(pod_logs: PodLogs) -> None:
    write(pod_logs.path("kserve-container", 0), "words")
    pod_logs.alias("queue-proxy", "kserve-container")
    pod_logs.alias("queue-proxy", "kserve-container")
    assert pod_logs.path("queue-proxy", 0).read_text() == "words"


def test_logs_of_this_run_and_of_the_one_before_are_kept(pod_logs: PodLogs) -> None:
    for number in range(4):
        write(pod_logs.path("main", number), "x")
    rotate(pod_logs.path("main", 0))
    pod_logs.forget_runs_before("main", 3)
    assert sorted(path.name for path in pod_logs.path("main", 0).parent.iterdir()) == ["2.log", "3.log"]


def test_removal_takes_all_and_may_be_repeated(pod_logs: PodLogs) -> None:
    write(pod_logs.path("main", 0), "x")
    pod_logs.remove()
    pod_logs.remove()
    assert not pod_logs.folder.exists()


@pytest.mark.parametrize(
    ("message", "fall_back", "wanted"),
    [
        ("said it", True, "said it"),
        ("", True, "line 99\n"),
        ("", False, ""),
        (None, True, "line 99\n"),
        ("x" * 5000, False, "x" * 4096),
    ],
)
def test_last_words(tmp_path: Path, message: str | None, fall_back: bool, wanted: str) -> None:
    log = write(tmp_path / "0.log", "".join(f"line {number}\n" for number in range(100)))
    if message is not None:
        write(tmp_path / "termination", message)
    found = read_termination_message(tmp_path / "termination", log, fall_back=fall_back)
    assert found.endswith(wanted)
    assert len(found.splitlines()) <= 80


def test_no_log_and_no_message_is_no_error(tmp_path: Path) -> None:
    assert read_termination_message(tmp_path / "a", tmp_path / "b", fall_back=True) == ""
