"""The content cache: downloads once for all pods, survives kills, notices damage, keeps its size."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ladle.clock import SystemClock
from runtimes.storage import cache as cache_module
from runtimes.storage import transfer
from runtimes.storage.cache import Cache, Known
from runtimes.storage.locks import locked, try_lock
from runtimes.storage.schemes import fetch
from tests.runtimes.storage_server import Answer, FileServer, serving
from tests.waiting import wait_for

CONTENT = random.Random(2).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FileServer]:
    monkeypatch.setattr(transfer, "BACKOFF_FIRST_S", 0.001)
    monkeypatch.setenv("LADLE_STORAGE_CACHE", str(tmp_path / "cache"))
    with serving() as running:
        yield running


def blobs(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache/blobs").glob("*/*"))


def test_a_second_pod_downloads_nothing(server: FileServer, tmp_path: Path) -> None:
    uri = server.put("/m.bin", CONTENT)
    fetch(uri, tmp_path / "1")
    sent = server.sent_bytes
    server.faults.append(lambda _path, _range, answer: answer.headers.update({"X-Hold-After": "0"}))
    fetch(uri, tmp_path / "2")  # Only asks whether it is still the same, and waits for no byte of it.
    assert (tmp_path / "2/m.bin").read_bytes() == CONTENT
    assert sent == len(CONTENT)
    assert [blob.name for blob in blobs(tmp_path)] == [SHA256]


def test_a_pinned_file_in_the_cache_needs_no_server(server: FileServer, tmp_path: Path) -> None:
    uri = f"{server.put('/m.bin', CONTENT)}#sha256={SHA256}"
    fetch(uri, tmp_path / "1")
    server.requests.clear()
    fetch(uri, tmp_path / "2")
    assert server.requests == []
    assert (tmp_path / "2/m.bin").read_bytes() == CONTENT


def test_a_pinned_file_without_a_version_is_cached_too(server: FileServer, tmp_path: Path) -> None:
    server.faults.append(lambda _path, _range, answer: answer.headers.pop("ETag", None) and None)
    uri = f"{server.put('/m.bin', CONTENT)}#sha256={SHA256}"
    fetch(uri, tmp_path / "1")
    server.requests.clear()
    fetch(uri, tmp_path / "2")
    assert server.requests == []


def test_a_new_version_is_downloaded(server: FileServer, tmp_path: Path) -> None:
    fetch(server.put("/m.bin", CONTENT), tmp_path / "1")
    fetch(server.put("/m.bin", CONTENT[::-1], '"2"'), tmp_path / "1")
    assert (tmp_path / "1/m.bin").read_bytes() == CONTENT[::-1]
    assert len(blobs(tmp_path)) == 2


def test_a_pod_gets_its_file_read_only(server: FileServer, tmp_path: Path) -> None:
    fetch(server.put("/m.bin", CONTENT), tmp_path / "1")
    assert (tmp_path / "1/m.bin").stat().st_mode & 0o777 == 0o444


def spoil_by_writing(blob: Path) -> None:
    blob.chmod(0o644)
    with blob.open("r+b") as file:
        file.write(b"x")


def spoil_by_cutting(blob: Path) -> None:
    before = blob.stat()
    os.truncate(blob, 100)
    os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))  # As after a crash of the machine.


@pytest.mark.parametrize("spoil", [spoil_by_writing, spoil_by_cutting, Path.unlink])
def test_a_damaged_blob_is_noticed_and_downloaded_again(
    spoil: object, server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = server.put("/m.bin", CONTENT)
    fetch(uri, tmp_path / "1")
    assert callable(spoil)
    spoil(blobs(tmp_path)[0])
    fetch(uri, tmp_path / "2")
    assert (tmp_path / "2/m.bin").read_bytes() == CONTENT
    assert ("cached file was damaged" in capsys.readouterr().err) == (spoil is not Path.unlink)


def test_a_blob_whose_time_alone_was_changed_is_kept(server: FileServer, tmp_path: Path) -> None:
    uri = f"{server.put('/m.bin', CONTENT)}#sha256={SHA256}"
    fetch(uri, tmp_path / "1")
    os.utime(blobs(tmp_path)[0])
    server.requests.clear()
    fetch(uri, tmp_path / "2")
    assert server.requests == []


def test_an_archive_is_cached_packed_and_unpacked_for_each(server: FileServer, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        info = tarfile.TarInfo("model.joblib")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"model"))
    uri = server.put("/m.tgz", buffer.getvalue())
    for pod in ("1", "2"):
        fetch(uri, tmp_path / pod)
        assert [path.name for path in (tmp_path / pod).iterdir()] == ["model.joblib"]
    assert server.sent_bytes <= 2 * len(buffer.getvalue())


@contextmanager
def initializer(uri: str, destination: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "runtimes.storage", uri, str(destination)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def test_two_initializers_at_once_download_once(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hold_parts(_path: str, range_header: str | None, answer: Answer) -> None:
        if range_header:
            answer.headers["X-Hold-After"] = "10"

    monkeypatch.setenv("LADLE_STORAGE_PART_BYTES", "100000")
    uri = server.put("/m.bin", CONTENT)
    server.faults.append(hold_parts)
    with initializer(uri, tmp_path / "1") as first, initializer(uri, tmp_path / "2") as second:
        wait_for("both to ask", lambda: sum(range_ is None for _, range_ in server.requests) == 2)
        wait_for("one to read", server.stalled.is_set)
        server.released.set()
        assert (first.wait(60), second.wait(60)) == (0, 0)
    assert sum(range_ is not None for _, range_ in server.requests) == 2
    for pod in ("1", "2"):
        assert (tmp_path / pod / "m.bin").read_bytes() == CONTENT
    assert list((tmp_path / "cache/incoming").iterdir()) == []


def test_a_killed_downloader_leaves_parts_and_no_lock(server: FileServer, tmp_path: Path) -> None:
    server.faults.append(lambda _path, _range, answer: answer.headers.update({"X-Hold-After": "200000"}))
    uri = server.put("/m.bin", CONTENT)
    with initializer(uri, tmp_path / "1") as killed:
        wait_for("a journal", lambda: list((tmp_path / "cache/incoming").glob("*/journal.json")))
        killed.send_signal(signal.SIGKILL)
    server.faults.clear()
    server.released.set()
    server.requests.clear()
    fetch(uri, tmp_path / "2")
    assert (tmp_path / "2/m.bin").read_bytes() == CONTENT
    [kept] = [range_ for _, range_ in server.requests if range_]
    assert int(kept.removeprefix("bytes=").removesuffix("-")) > 0
    assert list((tmp_path / "cache/incoming").iterdir()) == []


def test_a_cache_that_cannot_be_used_costs_time_and_not_the_model(
    server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_text("a file")
    fetch(server.put("/m.bin", CONTENT), tmp_path / "1")
    assert (tmp_path / "1/m.bin").read_bytes() == CONTENT
    assert "cache cannot be used" in capsys.readouterr().err


def test_a_file_larger_than_the_cache_goes_past_it(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LADLE_STORAGE_CACHE_MAX_BYTES", "1000")
    fetch(server.put("/m.bin", CONTENT), tmp_path / "1")
    assert (tmp_path / "1/m.bin").read_bytes() == CONTENT
    assert blobs(tmp_path) == []


class Clock:
    """A clock that stands where it is set."""

    now_s = 1_000_000_000.0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_s(self) -> float:
        return self.now_s


def filled(tmp_path: Path, clock: Clock, *, bytes_max: int = 1000) -> Cache:
    """A cache with blobs a, b, c of 300 bytes, used in this order."""
    made = Cache(tmp_path / "cache", bytes_max, clock)
    for name in "abc":
        clock.now_s += 1
        content = tmp_path / "content"
        content.write_bytes(name.encode() * 300)
        made.add(content, Known(hashlib.sha256(content.read_bytes()).hexdigest(), name), name)
    return made


def held(made: Cache) -> str:
    return "".join(name for name in "abc" if (known := made.known(name)) and made.place(known.sha256, _somewhere(made)))


def _somewhere(made: Cache) -> Path:
    target = made.root / "somewhere"
    target.unlink(missing_ok=True)
    return target


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    clock = Clock()
    made = filled(tmp_path, clock)
    clock.now_s += 1
    known = made.known("a")
    assert known is not None
    assert made.place(known.sha256, _somewhere(made))
    _somewhere(made)
    made.make_room(200)
    assert held(made) == "ac"


def test_what_a_pod_still_uses_goes_last_since_it_frees_nothing(tmp_path: Path) -> None:
    made = filled(tmp_path, Clock())
    for blob in (tmp_path / "cache/blobs").glob("*/*"):
        if blob.read_bytes().startswith(b"a"):
            os.link(blob, tmp_path / "pod")
    made.make_room(200)
    assert held(made) == "ac"


def test_an_abandoned_download_is_removed_and_a_living_one_is_not(tmp_path: Path) -> None:
    clock = Clock()
    made = filled(tmp_path, clock)
    for name in ("dead", "alive"):
        folder = tmp_path / "cache/incoming" / name
        folder.mkdir()
        os.utime(folder, (clock.now_s, clock.now_s))
    clock.now_s += cache_module.ABANDONED_S + 1
    with made.claim("alive", threading.Event()):
        made.make_room(0)
        assert (tmp_path / "cache/incoming/alive").exists()
        assert not (tmp_path / "cache/incoming/dead").exists()


def test_a_lock_leaves_no_file_and_whoever_waits_gets_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    stop = threading.Event()
    taken: list[bool] = []

    def wait() -> None:
        with locked(path, stop=stop, timeout_s=60) as ours:
            taken.append(ours)

    with locked(path, stop=stop, timeout_s=0) as ours:
        assert ours
        assert try_lock(path) is None
        waiting = [threading.Thread(target=wait) for _ in range(3)]
        for thread in waiting:
            thread.start()
    for thread in waiting:
        thread.join(60)
    assert taken == [True, True, True]
    assert not path.exists()


def test_a_lock_that_is_not_free_in_time_is_not_had(tmp_path: Path) -> None:
    descriptor = try_lock(tmp_path / "lock")
    assert descriptor is not None
    with locked(tmp_path / "lock", stop=threading.Event(), timeout_s=0.01) as ours:
        assert not ours
    os.close(descriptor)


def test_an_index_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    made = Cache(tmp_path, 1000, SystemClock())
    (tmp_path / "index/a.json").write_text(json.dumps({"sha256": "0"})[:-3])
    assert made.known("a") is None
