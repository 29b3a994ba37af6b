"""Which code a URI gets, what a refusal says, and what local paths and web servers need beside that."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ladle.errors import BadModel, Unsupported
from runtimes.storage import transfer
from runtimes.storage.schemes import fetch
from runtimes.storage.uri import AccessDenied, BadSetting, NoSuchSource, WrongContent
from tests.runtimes.storage_server import Answer, FileServer, serving


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr(transfer, "BACKOFF_FIRST_S", 0.001)
    with serving() as running:
        yield running


class TestRefusals:
    @pytest.mark.parametrize(
        ("uri", "advice"),
        [
            ("pvc://claim/model", "gets /mnt/pvc/"),
            ("oci://registry/model", "mounted or linked by the cluster"),
            ("hdfs://name/path", "https:// or s3://"),
            ("webhdfs://name/path", "https:// or s3://"),
            ("modelscope://owner/model", "hf://"),
        ],
    )
    def test_kserves_other_schemes_come_with_advice(self, uri: str, advice: str, tmp_path: Path) -> None:
        with pytest.raises(Unsupported, match=f"^{uri}: .*supported are file://, http://.*{advice}"):
            fetch(uri, tmp_path)

    def test_a_claim_that_is_not_mounted_says_so(self, tmp_path: Path) -> None:
        if Path("/mnt/pvc").exists():
            pytest.skip("this machine has a volume at /mnt/pvc")
        with pytest.raises(NoSuchSource, match=r"no volume is mounted at /mnt/pvc; is the claim of pvc:// bound\?"):
            fetch("/mnt/pvc/model", tmp_path)

    @pytest.mark.parametrize("source", ["/mnt/models", "/mnt/models/", "/mnt/models/a"])
    def test_the_directory_of_a_multi_model_server_is_left_alone(self, source: str, tmp_path: Path) -> None:
        fetch(source, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_a_path_that_only_begins_like_it_is_not(self, tmp_path: Path) -> None:
        with pytest.raises(NoSuchSource):
            fetch("/mnt/models-of-mine", tmp_path)

    def test_a_wrong_setting_is_told_with_the_uri(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("S3_MAX_FILE_CONCURRENCY", "many")
        with pytest.raises(BadSetting, match=r"^/a: S3_MAX_FILE_CONCURRENCY = many"):
            fetch("/a", tmp_path)

    @pytest.mark.parametrize("fault", ["read-only", "a file"])
    def test_a_destination_that_takes_nothing_is_named(self, fault: str, tmp_path: Path) -> None:
        (tmp_path / "model").write_text("1")
        (tmp_path / "out").write_text("")
        destination = tmp_path / "out" if fault == "a file" else Path("/proc/none")
        words = tmp_path / "last-words"
        command = [sys.executable, "-m", "runtimes.storage", str(tmp_path / "model"), str(destination)]
        done = subprocess.run(
            command,
            env={**os.environ, "LADLE_TERMINATION_LOG": str(words)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert words.read_text().startswith(f"{tmp_path / 'model'}: cannot write to {destination}")
        assert "Traceback" not in done.stderr


class TestLocalPatterns:
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        for name in ("model.onnx", "sub/deep/model.onnx", "sub/notes.txt", "model.bin"):
            (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "source" / name).write_text(name)
        return tmp_path / "source"

    def test_only_what_is_allowed_is_linked(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("STORAGE_ALLOW_PATTERNS", '["*.onnx", "*.txt"]')
        monkeypatch.setenv("STORAGE_IGNORE_PATTERNS", "sub/deep/*")
        fetch(source.as_uri(), tmp_path / "out")
        found = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*"))
        assert found == ["model.onnx", "sub", "sub/notes.txt"]
        assert (tmp_path / "out/sub/notes.txt").resolve() == source / "sub/notes.txt"

    def test_patterns_that_leave_nothing(self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STORAGE_ALLOW_PATTERNS", "*.safetensors")
        with pytest.raises(NoSuchSource, match=r"none of the 4 files there is left by STORAGE_ALLOW_PATTERNS"):
            fetch(source.as_uri(), tmp_path / "out")


class TestWeb:
    def test_patterns_do_not_filter_the_one_file_that_was_named(
        self, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("STORAGE_ALLOW_PATTERNS", "*.onnx")
        fetch(server.put("/m.bin", b"1"), tmp_path)
        assert (tmp_path / "m.bin").read_bytes() == b"1"

    def test_a_user_in_the_uri_is_sent_as_a_header(self, server: FileServer, tmp_path: Path) -> None:
        fetch(server.put("/m.bin", b"1").replace("//", "//me:a%20b@"), tmp_path)
        assert (tmp_path / "m.bin").exists()

    @pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/m"])
    def test_a_redirect_to_another_protocol_is_not_followed(
        self, location: str, server: FileServer, tmp_path: Path
    ) -> None:
        def redirect(_path: str, _range: str | None, answer: Answer) -> None:
            answer.status, answer.body, answer.headers = 302, b"", {"Location": location}

        server.faults.append(redirect)
        with pytest.raises(BadModel, match=r"302 .*is not (followed|allowed)"):
            fetch(server.put("/m.bin", b"1"), tmp_path)
        assert len(server.requests) == 1

    @pytest.mark.parametrize(("status", "error"), [(401, AccessDenied), (403, AccessDenied), (410, NoSuchSource)])
    def test_kinds_of_refusal(self, status: int, error: type[BadModel], server: FileServer, tmp_path: Path) -> None:
        server.faults.append(lambda _path, _range, answer: setattr(answer, "status", status))
        with pytest.raises(error):
            fetch(server.put("/m.bin", b""), tmp_path)

    def test_headers_that_cannot_be_read_are_named(
        self, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("127.0.0.1-headers", "[1]")
        with pytest.raises(BadSetting, match="-headers must be a JSON object of headers"):
            fetch(server.put("/m.bin", b"1"), tmp_path)

    def test_an_archive_that_is_none_is_told_with_its_content_type(self, server: FileServer, tmp_path: Path) -> None:
        server.faults.append(lambda _path, _range, answer: answer.headers.update({"Content-Type": "text/plain"}))
        with pytest.raises(WrongContent, match=r"m\.zip could not be unpacked: .*\(content type text/plain\)"):
            fetch(server.put("/m.zip", b"please log in"), tmp_path)
