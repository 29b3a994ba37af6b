"""A full disk: told before a byte is fetched where that can be, with path, needed and free bytes; nothing half-published."""

from __future__ import annotations

import gzip
import os
import resource
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtimes.storage.schemes import fetch
from runtimes.storage.space import DiskFull
from tests.runtimes.storage_server import Answer, FileServer, serving

CONTENT = bytes(range(256)) * 4096  # 1 MiB
TMPFS_BYTES = 512 * 1024


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.delenv("LADLE_STORAGE_CACHE", raising=False)
    with serving() as running:
        yield running


def initialize(source: str, destination: Path, *, file_bytes_max: int | None = None) -> tuple[int, str]:
    """Exit code and last words of an initializer that may write files of this size only."""
    last_words = destination.with_name("last-words")

    def limit() -> None:
        if file_bytes_max is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, file_bytes_max))

    code = subprocess.run(
        [sys.executable, "-m", "runtimes.storage", source, str(destination)],
        env={**os.environ, "LADLE_TERMINATION_LOG": str(last_words)},
        stderr=subprocess.DEVNULL,
        preexec_fn=limit,
        check=False,
    ).returncode
    return code, last_words.read_text() if last_words.exists() else ""


def published(destination: Path) -> list[str]:
    return [path.name for path in destination.iterdir() if not path.name.startswith(".ladle-")]


def test_a_write_that_does_not_fit_names_path_needed_and_free(server: FileServer, tmp_path: Path) -> None:
    uri = server.put("/m.bin", CONTENT)
    code, last_words = initialize(uri, tmp_path / "out", file_bytes_max=300_000)
    assert code == 1
    assert last_words.startswith(f"{uri}: no space left at {tmp_path}/out/")
    assert f"{len(CONTENT)} bytes are needed" in last_words
    assert "bytes are free" in last_words
    assert published(tmp_path / "out") == []
    assert len(server.requests) == 1  # A full disk is not tried again like a broken line.


def test_a_download_goes_on_once_there_is_room(server: FileServer, tmp_path: Path) -> None:
    uri = server.put("/m.bin", CONTENT)
    initialize(uri, tmp_path / "out", file_bytes_max=300_000)
    server.requests.clear()
    assert initialize(uri, tmp_path / "out") == (0, (tmp_path / "last-words").read_text())
    assert (tmp_path / "out/m.bin").read_bytes() == CONTENT
    assert int((server.requests[1][1] or "")[6:-1]) > 200_000


def test_an_archive_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(CONTENT)
    (tmp_path / "small").write_bytes(b"1")
    with tarfile.open(tmp_path / "m.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "small", "small")
        tar.add(tmp_path / "big", "big")
    code, last_words = initialize(str(tmp_path / "m.tar.gz"), tmp_path / "out", file_bytes_max=300_000)
    assert code == 1
    assert "no space left" in last_words
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_larger_than_the_disk_is_not_begun(server: FileServer, tmp_path: Path) -> None:
    def claim(_path: str, _range: str | None, answer: Answer) -> None:
        answer.headers["Content-Length"] = str(2**60)

    server.faults.append(claim)
    with pytest.raises(DiskFull, match=rf"no space left at {tmp_path}.*: {2**60} bytes are needed, \d+ bytes are free"):
        fetch(server.put("/m.bin", CONTENT), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 512 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = f"size={TMPFS_BYTES}"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")


@needs_root
def test_what_is_known_not_to_fit_is_refused_beforehand(server: FileServer, small_disk: Path, tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match=rf"{len(CONTENT)} bytes are needed, \d+ bytes are free"):
        fetch(server.put("/m.bin", CONTENT), small_disk / "out")
    assert list((small_disk / "out").iterdir()) == []


@needs_root
def test_what_was_not_known_to_be_too_large_fills_the_disk_and_is_removed(server: FileServer, small_disk: Path) -> None:
    server.faults.append(lambda _path, _range, answer: answer.headers.update({"Content-Encoding": "gzip"}))
    with pytest.raises(DiskFull, match="No space left on device"):
        fetch(server.put("/m.bin", gzip.compress(CONTENT)), small_disk / "out")
    assert list((small_disk / "out").iterdir()) == []


@needs_root
def test_a_zip_is_measured_before_it_is_unpacked(small_disk: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model", CONTENT)
    with pytest.raises(DiskFull, match=f"{len(CONTENT)} bytes are needed"):
        fetch(str(tmp_path / "m.zip"), small_disk / "out")


@needs_root
def test_a_full_cache_disk_is_gone_past(
    server: FileServer, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LADLE_STORAGE_CACHE", str(small_disk / "cache"))
    fetch(server.put("/m.bin", CONTENT), tmp_path / "out")
    assert (tmp_path / "out/m.bin").read_bytes() == CONTENT


@needs_root
def test_a_cache_on_another_disk_is_copied_from(
    server: FileServer, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LADLE_STORAGE_CACHE", str(small_disk / "cache"))
    uri = server.put("/m.bin", CONTENT[:100_000])
    for pod in ("1", "2"):
        fetch(uri, tmp_path / pod)
        assert (tmp_path / pod / "m.bin").read_bytes() == CONTENT[:100_000]
        assert (tmp_path / pod / "m.bin").stat().st_mode & 0o777 == 0o444
    assert server.sent_bytes <= 2 * 100_000
