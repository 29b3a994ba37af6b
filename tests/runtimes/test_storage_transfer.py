"""Downloads in parts: resumed after breaks and after a kill, never put together from two versions, checked."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ladle.errors import BadModel, StorageUnavailable
from runtimes.storage import transfer
from runtimes.storage.schemes import fetch
from tests.runtimes.storage_server import Answer, FileServer, cut_short, serving
from tests.waiting import wait_for

CONTENT = random.Random(1).randbytes(1_000_000)
PART_BYTES = 100_000


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr(transfer, "BACKOFF_FIRST_S", 0.001)
    monkeypatch.setenv("LADLE_STORAGE_PART_BYTES", str(PART_BYTES))
    monkeypatch.delenv("LADLE_STORAGE_CACHE", raising=False)
    with serving() as running:
        yield running


def test_a_large_file_comes_in_parts(server: FileServer, tmp_path: Path) -> None:
    fetch(server.put("/m.bin", CONTENT), tmp_path)
    assert (tmp_path / "m.bin").read_bytes() == CONTENT
    assert len(server.requests) == 10  # The question what it is brought the first part.
    assert sorted(os.listdir(tmp_path)) == ["m.bin"]


def test_a_small_file_takes_one_request(server: FileServer, tmp_path: Path) -> None:
    fetch(server.put("/m.bin", CONTENT[:5000]), tmp_path)
    assert server.requests == [("/m.bin", None)]


def test_an_empty_file_is_a_file(server: FileServer, tmp_path: Path) -> None:
    fetch(server.put("/m.bin", b""), tmp_path)
    assert (tmp_path / "m.bin").read_bytes() == b""


def test_parts_that_break_continue_each_where_it_was(server: FileServer, tmp_path: Path) -> None:
    server.faults.append(cut_short(0.5, times=15))
    fetch(server.put("/m.bin", CONTENT), tmp_path)
    assert (tmp_path / "m.bin").read_bytes() == CONTENT


def test_a_server_that_says_nothing_of_ranges_is_read_in_one_stream(server: FileServer, tmp_path: Path) -> None:
    server.faults.append(lambda _path, _range, answer: answer.headers.pop("Accept-Ranges", None) and None)
    fetch(server.put("/m.bin", CONTENT), tmp_path)
    assert len(server.requests) == 1


def test_a_server_that_ignores_ranges_sends_again_what_is_left_out(server: FileServer, tmp_path: Path) -> None:
    def whole(path: str, _range: str | None, answer: Answer) -> None:
        answer.status, answer.body = 200, server.files[path]
        answer.headers.pop("Content-Range", None)

    server.faults += [whole, cut_short(0.5, times=1)]
    fetch(server.put("/m.bin", CONTENT), tmp_path)
    assert (tmp_path / "m.bin").read_bytes() == CONTENT


def test_a_file_that_changes_between_parts_begins_anew(server: FileServer, tmp_path: Path) -> None:
    def change_at_the_fifth(_path: str, _range: str | None, _answer: Answer) -> None:
        if len(server.requests) == 5:
            server.put("/m.bin", CONTENT[::-1], '"2"')

    server.faults.append(change_at_the_fifth)
    fetch(server.put("/m.bin", CONTENT), tmp_path)
    assert (tmp_path / "m.bin").read_bytes() == CONTENT[::-1]


def test_a_file_that_never_stays_the_same_is_given_up(server: FileServer, tmp_path: Path) -> None:
    def change_always(path: str, _range: str | None, _answer: Answer) -> None:
        server.put(path, CONTENT, f'"{len(server.requests)}"')

    server.faults.append(change_always)
    with pytest.raises(StorageUnavailable, match="it changed 3 times while it was read"):
        fetch(server.put("/m.bin", CONTENT), tmp_path)
    assert not (tmp_path / "m.bin").exists()


def test_an_answer_to_another_range_is_not_taken(server: FileServer, tmp_path: Path) -> None:
    def shift(_path: str, range_header: str | None, answer: Answer) -> None:
        if range_header:
            answer.headers["Content-Range"] = f"bytes 1-{len(answer.body)}/{len(CONTENT)}"

    server.faults.append(shift)
    with pytest.raises(StorageUnavailable, match="the server sends bytes 1-"):
        fetch(server.put("/m.bin", CONTENT), tmp_path)


def test_one_part_that_is_refused_ends_the_others_with_its_reason(server: FileServer, tmp_path: Path) -> None:
    def refuse(_path: str, range_header: str | None, answer: Answer) -> None:
        if range_header and range_header.startswith("bytes=500000-"):
            answer.status, answer.body = 403, b""

    server.faults.append(refuse)
    with pytest.raises(BadModel, match=r"m\.bin: the server answered 403.*https secret"):
        fetch(server.put("/m.bin", CONTENT), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_secrets_in_the_uri_are_not_in_the_message(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(BadModel) as refused:
        fetch(f"{server.url.replace('//', '//me:password@')}/none.bin?signature=secret", tmp_path)
    assert "secret" not in str(refused.value)
    assert "password" not in str(refused.value)
    assert f"{server.url}/none.bin?...: the server answered 404" in str(refused.value)


def test_a_killed_downloader_leaves_parts_and_the_next_one_goes_on(server: FileServer, tmp_path: Path) -> None:
    def hold(_path: str, range_header: str | None, answer: Answer) -> None:
        if range_header and range_header.startswith("bytes=900000-"):
            answer.headers["X-Hold-After"] = "10"

    server.faults.append(hold)
    uri = server.put("/m.bin", CONTENT)
    command = [sys.executable, "-m", "runtimes.storage", uri, str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as killed:
        try:
            wait_for("all other parts", lambda: sum(range_ is not None for _, range_ in server.requests) == 9)
            wait_for("the last one held", server.stalled.is_set)
            wait_for("a journal", lambda: list(tmp_path.glob(".ladle-*/work/*/journal.json")))
        finally:
            killed.kill()
    [journal] = tmp_path.glob(".ladle-*/work/*/journal.json")
    kept = sum(end - start for start, end in json.loads(journal.read_text())["spans"])
    server.faults.clear()
    server.released.set()
    server.requests.clear()
    fetch(uri, tmp_path)
    assert (tmp_path / "m.bin").read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["m.bin"]
    wanted = sum(_span_bytes(range_) for _, range_ in server.requests if range_)
    assert wanted <= len(CONTENT) - kept
    assert kept > 0


def _span_bytes(range_header: str) -> int:
    first, _, last = range_header.removeprefix("bytes=").partition("-")
    return (int(last) + 1 if last else len(CONTENT)) - int(first)


def test_a_failed_download_goes_on_in_the_next_attempt(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LADLE_STORAGE_PART_CONCURRENCY", "1")

    def fail_late(_path: str, range_header: str | None, answer: Answer) -> None:
        if range_header and int(range_header[6:].partition("-")[0]) >= 600_000:
            answer.status, answer.body = 503, b""

    uri = server.put("/m.bin", CONTENT)
    server.faults.append(fail_late)
    with pytest.raises(StorageUnavailable, match=r"tried 6 times, last: the server answered 503"):
        fetch(uri, tmp_path)
    assert not (tmp_path / "m.bin").exists()
    server.faults.clear()
    server.requests.clear()
    fetch(uri, tmp_path)
    assert (tmp_path / "m.bin").read_bytes() == CONTENT
    assert next(range_ for _, range_ in server.requests if range_) == "bytes=600000-699999"


def test_what_was_written_before_the_machine_crashed_is_not_believed(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.faults.append(cut_short(0.5, times=1))
    server.faults.append(lambda _path, range_, answer: setattr(answer, "status", 503 if range_ else answer.status))
    uri = server.put("/m.bin", CONTENT)
    with pytest.raises(StorageUnavailable):
        fetch(uri, tmp_path)
    [journal] = tmp_path.glob(".ladle-*/work/*/journal.json")
    journal.write_text(json.dumps({**json.loads(journal.read_text()), "boot": "another"}))
    server.faults.clear()
    server.requests.clear()
    fetch(uri, tmp_path)
    assert (tmp_path / "m.bin").read_bytes() == CONTENT
    assert len(server.requests) == 10


def test_a_new_version_does_not_go_on_with_the_old_ones_parts(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LADLE_STORAGE_PART_CONCURRENCY", "1")
    server.faults.append(cut_short(0.0, times=1000))
    uri = server.put("/m.bin", CONTENT)
    with pytest.raises(StorageUnavailable):
        fetch(uri, tmp_path)
    server.faults.clear()
    server.put("/m.bin", CONTENT[::-1], '"2"')
    fetch(uri, tmp_path)
    assert (tmp_path / "m.bin").read_bytes() == CONTENT[::-1]


def test_a_pin_is_checked_over_all_parts(server: FileServer, tmp_path: Path) -> None:
    uri = server.put("/m.bin", CONTENT)
    fetch(f"{uri}#sha256={hashlib.sha256(CONTENT).hexdigest()}", tmp_path)
    assert (tmp_path / "m.bin").read_bytes() == CONTENT
    with pytest.raises(BadModel, match="not the pinned one"):
        fetch(f"{uri}#sha256={'0' * 64}", tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []


def test_progress_is_told_in_bytes_and_percent(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("runtimes.storage.progress.INTERVAL_S", 0.0)
    fetch(server.put("/m.bin", CONTENT), tmp_path)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line[0] == "{"]
    told = [line for line in lines if line["event"] == "downloading"]
    assert max(line["percent"] for line in told) == 100.0
    assert {line["total_bytes"] for line in told} == {len(CONTENT)}
    assert lines[-1]["event"] == "downloaded"
    assert lines[-1]["bytes"] == len(CONTENT)


def test_memory_does_not_grow_with_the_file(server: FileServer, tmp_path: Path) -> None:
    uri = server.put("/m.bin", CONTENT * 120)
    code = (
        "import resource, sys; from pathlib import Path; from runtimes.storage.schemes import fetch; "
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; "
        f"fetch({uri!r}, Path({str(tmp_path)!r})); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    env = {**os.environ, "LADLE_STORAGE_PART_BYTES": "10000000"}
    grown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert int(grown.stdout) < 80_000  # kB, imports included; the file has 120 MB.
