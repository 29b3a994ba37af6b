"""The storage initializer: files complete or not at all, and a message that names the URI and what to do."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import io
import stat
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from ladle.errors import BadModel, StorageUnavailable, Unsupported
from runtimes.storage import archive, transfer
from runtimes.storage.__main__ import main
from runtimes.storage.schemes import fetch

CONTENT = bytes(range(256)) * 1000


class FlakyServer(BaseHTTPRequestHandler):
    """Serves `files`; breaks each of the first `breaks` answers off in the middle; knows Range unless told otherwise."""

    files: ClassVar[dict[str, bytes]] = {}
    statuses: ClassVar[list[int]] = []
    breaks: ClassVar[int] = 0
    ranges: ClassVar[list[str | None]] = []
    with_ranges: ClassVar[bool] = True
    etag: ClassVar[str] = '"1"'
    encoding: ClassVar[str] = ""
    location: ClassVar[str] = ""
    changes: ClassVar[bool] = False
    content_type: ClassVar[str] = "application/octet-stream"
    headers_seen: ClassVar[list[dict[str, str]]] = []

    def do_GET(self) -> None:
        cls = type(self)
        cls.ranges.append(self.headers.get("Range"))
        cls.headers_seen.append(dict(self.headers))
        if cls.statuses:
            self.send_error(cls.statuses.pop(0))
            return
        if cls.location and self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", cls.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path not in cls.files:
            self.send_error(404)
            return
        content = cls.files[self.path]
        start = int(self.headers["Range"][6:-1]) if self.headers.get("Range") and cls.with_ranges else 0
        if self.headers.get("If-Range", cls.etag) != cls.etag:
            start = 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", cls.content_type)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if cls.encoding:
            self.send_header("Content-Encoding", cls.encoding)
        if cls.etag:
            self.send_header("ETag", cls.etag)
        self.end_headers()
        if cls.breaks:
            cls.breaks -= 1
            self.wfile.write(content[start : start + (len(content) - start) // 2])
            self.close_connection = True
            if cls.changes:
                cls.files[self.path], cls.etag = content[::-1], '"2"'
            return
        self.wfile.write(content[start:])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    FlakyServer.files, FlakyServer.statuses, FlakyServer.ranges, FlakyServer.headers_seen = {}, [], [], []
    FlakyServer.breaks, FlakyServer.with_ranges, FlakyServer.content_type = 0, True, "application/octet-stream"
    FlakyServer.etag, FlakyServer.encoding, FlakyServer.location, FlakyServer.changes = '"1"', "", "", False
    monkeypatch.setattr(transfer, "BACKOFF_FIRST_S", 0.001)
    with ThreadingHTTPServer(("127.0.0.1", 0), FlakyServer) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def tar_of(*members: tuple[str, bytes], change: Callable[[tarfile.TarInfo], None] = lambda _: None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            change(info)
            archive.addfile(info, io.BytesIO(content if info.isfile() else b""))
    return buffer.getvalue()


def zip_of(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


class TestLocal:
    def test_each_entry_of_a_directory_is_linked(self, tmp_path: Path) -> None:
        source = tmp_path / "a model"
        source.mkdir()
        (source / "model.joblib").write_bytes(CONTENT)
        (source / "empty").touch()
        fetch(source.as_uri(), tmp_path / "out")
        assert names(tmp_path / "out") == ["empty", "model.joblib"]
        assert (tmp_path / "out/model.joblib").resolve() == source / "model.joblib"

    def test_a_single_file_keeps_its_name(self, tmp_path: Path) -> None:
        (tmp_path / "model.joblib").write_bytes(CONTENT)
        fetch(str(tmp_path / "model.joblib"), tmp_path / "out")
        assert names(tmp_path / "out") == ["model.joblib"]

    def test_an_archive_is_unpacked_and_the_original_stays(self, tmp_path: Path) -> None:
        original = tmp_path / "model.tar.gz"
        original.write_bytes(tar_of(("model.joblib", CONTENT)))
        fetch(original.as_uri(), tmp_path / "out")
        assert names(tmp_path / "out") == ["model.joblib"]
        assert original.exists()

    def test_a_missing_path_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(BadModel, match=r"file:///does/not/exist.*check storageUri"):
            fetch("file:///does/not/exist", tmp_path / "out")
        assert names(tmp_path / "out") == []

    def test_an_empty_directory_is_no_model(self, tmp_path: Path) -> None:
        (tmp_path / "source").mkdir()
        with pytest.raises(BadModel, match="there is no file there"):
            fetch((tmp_path / "source").as_uri(), tmp_path / "out")

    def test_two_slashes_are_explained(self, tmp_path: Path) -> None:
        with pytest.raises(BadModel, match="file:///models/iris"):
            fetch("file://models/iris", tmp_path / "out")

    def test_a_second_run_replaces_the_first(self, tmp_path: Path) -> None:
        (tmp_path / "m.joblib").write_bytes(b"1")
        fetch(str(tmp_path / "m.joblib"), tmp_path / "out")
        fetch(str(tmp_path / "m.joblib"), tmp_path / "out")
        assert names(tmp_path / "out") == ["m.joblib"]


class TestHttp:
    def test_a_file_arrives_whole(self, server: str, tmp_path: Path) -> None:
        FlakyServer.files["/m/model.joblib?token=x"] = CONTENT
        fetch(f"{server}/m/model.joblib?token=x", tmp_path)
        assert (tmp_path / "model.joblib").read_bytes() == CONTENT

    @pytest.mark.parametrize(
        ("given", "sent", "file"),
        [
            ("/my model.joblib", "/my%20model.joblib", "my model.joblib"),
            ("/my%20model.joblib?sig=a%2Fb", "/my%20model.joblib?sig=a%2Fb", "my model.joblib"),
            ("/modèle.joblib?x=1 2", "/mod%C3%A8le.joblib?x=1%202", "modèle.joblib"),
        ],
    )
    def test_what_no_request_line_may_hold_is_encoded(
        self, given: str, sent: str, file: str, server: str, tmp_path: Path
    ) -> None:
        FlakyServer.files[sent] = CONTENT
        fetch(f"{server}{given}", tmp_path)
        assert (tmp_path / file).read_bytes() == CONTENT

    def test_a_broken_download_continues_where_it_broke(self, server: str, tmp_path: Path) -> None:
        FlakyServer.files["/model.joblib"], FlakyServer.breaks = CONTENT, 2
        fetch(f"{server}/model.joblib", tmp_path)
        assert (tmp_path / "model.joblib").read_bytes() == CONTENT
        assert FlakyServer.ranges == [None, f"bytes={len(CONTENT) // 2}-", f"bytes={len(CONTENT) * 3 // 4}-"]

    def test_a_server_without_ranges_begins_anew(self, server: str, tmp_path: Path) -> None:
        FlakyServer.files["/model.joblib"], FlakyServer.breaks, FlakyServer.with_ranges = CONTENT, 1, False
        fetch(f"{server}/model.joblib", tmp_path)
        assert (tmp_path / "model.joblib").read_bytes() == CONTENT

    def test_a_file_that_changed_meanwhile_is_not_put_together_from_two(self, server: str, tmp_path: Path) -> None:
        FlakyServer.files["/model.joblib"], FlakyServer.breaks, FlakyServer.changes = CONTENT, 1, True
        fetch(f"{server}/model.joblib", tmp_path)
        assert (tmp_path / "model.joblib").read_bytes() == CONTENT[::-1]

    def test_without_a_validator_nothing_is_continued(self, server: str, tmp_path: Path) -> None:
        FlakyServer.files["/model.joblib"], FlakyServer.breaks, FlakyServer.etag = CONTENT, 1, ""
        fetch(f"{server}/model.joblib", tmp_path)
        assert FlakyServer.ranges == [None, None]

    def test_a_coding_that_nobody_asked_for_is_undone(self, server: str, tmp_path: Path) -> None:
        FlakyServer.files["/model.joblib"], FlakyServer.encoding = gzip.compress(CONTENT), "gzip"
        fetch(f"{server}/model.joblib", tmp_path)
        assert (tmp_path / "model.joblib").read_bytes() == CONTENT

    def test_a_redirect_to_another_host_takes_no_credentials_along(
        self, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        port = server.rpartition(":")[2]
        FlakyServer.files["/model.joblib"], FlakyServer.location = CONTENT, f"http://127.0.0.1:{port}/model.joblib"
        monkeypatch.setenv("localhost-headers", '{"X-Secret": "s", "Authorization": "Bearer secret"}')
        fetch(f"http://localhost:{port}/elsewhere", tmp_path)
        first, second = FlakyServer.headers_seen
        assert (first["Authorization"], first["X-Secret"]) == ("Bearer secret", "s")
        assert "Authorization" not in second
        assert "X-Secret" not in second

    def test_a_busy_server_is_asked_again(self, server: str, tmp_path: Path) -> None:
        FlakyServer.files["/model.joblib"], FlakyServer.statuses = CONTENT, [503, 429]
        fetch(f"{server}/model.joblib", tmp_path)
        assert len(FlakyServer.ranges) == 3

    @pytest.mark.parametrize(("status", "hint"), [(404, "check the path"), (403, "may not read"), (401, "credentials")])
    def test_a_refusal_is_final_and_says_what_to_do(self, server: str, tmp_path: Path, status: int, hint: str) -> None:
        FlakyServer.statuses = [status]
        with pytest.raises(BadModel, match=f"{server}/model.joblib.*{status}.*{hint}"):
            fetch(f"{server}/model.joblib", tmp_path)
        assert len(FlakyServer.ranges) == 1

    def test_a_server_that_never_answers_is_a_transient_failure(self, server: str, tmp_path: Path) -> None:
        FlakyServer.statuses = [500] * transfer.FAILURES_MAX
        with pytest.raises(StorageUnavailable, match=f"{server}/model.joblib.*tried {transfer.FAILURES_MAX} times"):
            fetch(f"{server}/model.joblib", tmp_path)
        assert names(tmp_path) == []

    def test_a_login_page_is_no_model(self, server: str, tmp_path: Path) -> None:
        FlakyServer.files["/model.joblib"], FlakyServer.content_type = b"<html>", "text/html; charset=utf-8"
        with pytest.raises(BadModel, match="web page"):
            fetch(f"{server}/model.joblib", tmp_path)

    def test_headers_come_from_the_environment(
        self, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        FlakyServer.files["/model.joblib"] = CONTENT
        monkeypatch.setenv("127.0.0.1-headers", '{"Authorization": "Bearer secret"}')
        fetch(f"{server}/model.joblib", tmp_path)
        assert FlakyServer.headers_seen[0]["Authorization"] == "Bearer secret"

    def test_a_uri_without_a_file_name_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(BadModel, match="without a file name"):
            fetch("http://127.0.0.1:1/models/", tmp_path)


class TestPin:
    def test_the_pinned_content_is_taken(self, server: str, tmp_path: Path) -> None:
        FlakyServer.files["/model.joblib"] = CONTENT
        fetch(f"{server}/model.joblib#sha256={hashlib.sha256(CONTENT).hexdigest()}", tmp_path)
        assert names(tmp_path) == ["model.joblib"]

    def test_other_content_is_refused_and_not_published(self, server: str, tmp_path: Path) -> None:
        FlakyServer.files["/model.joblib"] = CONTENT
        with pytest.raises(BadModel, match="not the pinned one"):
            fetch(f"{server}/model.joblib#sha256={'0' * 64}", tmp_path)
        assert names(tmp_path) == []


class TestArchives:
    @pytest.mark.parametrize(("name", "pack"), [("m.tar.gz", tar_of), ("m.tgz", tar_of), ("m.zip", zip_of)])
    def test_an_archive_is_replaced_by_its_content(
        self, server: str, tmp_path: Path, name: str, pack: Callable[..., bytes]
    ) -> None:
        FlakyServer.files[f"/{name}"] = pack(("model.joblib", CONTENT), ("more/empty", b""))
        fetch(f"{server}/{name}", tmp_path)
        assert names(tmp_path) == ["model.joblib", "more/empty"]

    @pytest.mark.parametrize("name", ["../outside", "/etc/outside", "a/../../outside", "a\\..\\outside"])
    @pytest.mark.parametrize("kind", ["tar.gz", "zip"])
    def test_paths_that_leave_the_directory_are_refused(self, tmp_path: Path, name: str, kind: str) -> None:
        packed = (tar_of if kind == "tar.gz" else zip_of)(("good", b"1"), (name, b"2"))
        (tmp_path / f"m.{kind}").write_bytes(packed)
        with pytest.raises(BadModel, match="points outside"):
            fetch(str(tmp_path / f"m.{kind}"), tmp_path / "out")
        assert names(tmp_path / "out") == []
        assert not (tmp_path / "outside").exists()

    def test_a_link_out_of_a_tar_is_refused(self, tmp_path: Path) -> None:
        def link(info: tarfile.TarInfo) -> None:
            info.type, info.linkname, info.size = tarfile.SYMTYPE, "../../../etc/passwd", 0

        (tmp_path / "m.tar.gz").write_bytes(tar_of(("model.joblib", b""), change=link))
        with pytest.raises(BadModel, match="points outside"):
            fetch(str(tmp_path / "m.tar.gz"), tmp_path / "out")
        assert names(tmp_path / "out") == []

    def test_a_link_out_of_a_zip_is_refused(self, tmp_path: Path) -> None:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        (tmp_path / "m.zip").write_bytes(zip_of((info, b"/etc/passwd")))
        with pytest.raises(BadModel, match="points outside"):
            fetch(str(tmp_path / "m.zip"), tmp_path / "out")

    def test_a_device_is_refused(self, tmp_path: Path) -> None:
        def device(info: tarfile.TarInfo) -> None:
            info.type, info.size = tarfile.CHRTYPE, 0

        (tmp_path / "m.tar.gz").write_bytes(tar_of(("zero", b""), change=device))
        with pytest.raises(BadModel, match="device"):
            fetch(str(tmp_path / "m.tar.gz"), tmp_path / "out")

    def test_a_bomb_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(archive, "SMALL_BYTES", 1000)
        monkeypatch.setattr(archive, "EXPANSION_MAX", 10)
        (tmp_path / "m.zip").write_bytes(zip_of(("zeros", bytes(1_000_000))))
        with pytest.raises(BadModel, match="unpacks to more than"):
            fetch(str(tmp_path / "m.zip"), tmp_path / "out")

    def test_a_damaged_archive_names_itself(self, tmp_path: Path) -> None:
        (tmp_path / "m.tar.gz").write_bytes(tar_of(("model.joblib", CONTENT))[:200])
        with pytest.raises(BadModel, match=r"m\.tar\.gz could not be unpacked"):
            fetch(str(tmp_path / "m.tar.gz"), tmp_path / "out")


class TestPublish:
    def test_links_inside_an_archive_stay_links(self, tmp_path: Path) -> None:
        def link_second(info: tarfile.TarInfo) -> None:
            if info.name == "current":
                info.type, info.linkname, info.size = tarfile.SYMTYPE, "versions/1", 0

        packed = tar_of(("current", b""), ("versions/1", b"one"), change=link_second)
        (tmp_path / "m.tgz").write_bytes(packed)
        fetch(str(tmp_path / "m.tgz"), tmp_path / "out")
        assert (tmp_path / "out/current").read_text() == "one"
        assert (tmp_path / "out/current").is_symlink()

    def test_no_file_is_written_through_a_link(self, tmp_path: Path) -> None:
        def link_first(info: tarfile.TarInfo) -> None:
            if info.name == "door":
                info.type, info.linkname, info.size = tarfile.SYMTYPE, "..", 0

        (tmp_path / "m.tgz").write_bytes(tar_of(("door", b""), ("door/outside", b"x"), change=link_first))
        with pytest.raises(BadModel, match="points outside"):
            fetch(str(tmp_path / "m.tgz"), tmp_path / "out")
        assert not (tmp_path / "outside").exists()

    def test_what_a_killed_initializer_left_is_removed_and_what_a_living_one_makes_is_not(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        for name in ("dead", "alive"):
            (out / f".ladle-staging-{name}").mkdir(parents=True)
            (out / f".ladle-staging-{name}" / "lock").touch()
        (tmp_path / "m.joblib").write_bytes(b"1")
        with (out / ".ladle-staging-alive" / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            fetch(str(tmp_path / "m.joblib"), out)
        assert sorted(path.name for path in out.iterdir()) == [".ladle-staging-alive", "m.joblib"]

    def test_two_initializers_at_once_both_succeed(self, server: str, tmp_path: Path) -> None:
        FlakyServer.files["/m.tar.gz"] = tar_of(("a/model.joblib", CONTENT), ("b", b"2"))
        command = [sys.executable, "-m", "runtimes.storage", f"{server}/m.tar.gz", str(tmp_path / "out")]
        both = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(2)]
        assert [process.wait(30) for process in both] == [0, 0]
        assert names(tmp_path / "out") == ["a/model.joblib", "b"]


class TestCommand:
    def test_an_unknown_scheme_lists_the_known_ones(self, tmp_path: Path) -> None:
        with pytest.raises(Unsupported, match=r"ftp://.*file://, http://, https://"):
            fetch("ftp://host/model", tmp_path)

    def test_a_failure_goes_to_the_termination_log(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("LADLE_TERMINATION_LOG", str(tmp_path / "last-words"))
        assert main(["file:///does/not/exist", str(tmp_path / "out")]) == 1
        assert "file:///does/not/exist" in (tmp_path / "last-words").read_text()
        assert "file:///does/not/exist" in capsys.readouterr().err

    def test_an_encrypted_model_is_not_taken_for_a_plain_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "model").write_text("ciphertext")
        monkeypatch.setenv("CONFIDENTIAL_ENABLED", "true")
        assert main([str(tmp_path / "model"), str(tmp_path / "out")]) == 1
        assert "confidential.enabled" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    def test_several_pairs_are_fetched(self, tmp_path: Path) -> None:
        for name in "ab":
            (tmp_path / name).write_text(name)
        assert main([str(tmp_path / "a"), str(tmp_path / "1"), str(tmp_path / "b"), str(tmp_path / "2")]) == 0
        assert (tmp_path / "2/b").read_text() == "b"

    @pytest.mark.parametrize("arguments", [[], ["only-a-source"]])
    def test_odd_arguments_show_the_usage(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert main(arguments) == 2
        assert "usage:" in capsys.readouterr().err

    def test_a_local_model_needs_nothing_but_the_standard_library(self) -> None:
        code = (
            "import sys, runtimes.storage.__main__, runtimes.storage.local; "
            "print([m for m in ('numpy', 'aiohttp', 'orjson', 'structlog', 'urllib.request', 'ssl') if m in sys.modules])"
        )
        seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert seen.stdout.strip() == "[]"
