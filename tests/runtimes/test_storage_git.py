"""`https://....git`: cloned by git itself, from git's own server program behind a small web server."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from runtimes.storage import transfer
from runtimes.storage.schemes import fetch
from runtimes.storage.uri import AccessDenied, BadUri, NoSuchSource, WrongContent

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@dataclass
class Repository:
    """A bare repository `models.git` under `root`, and the work tree that it is pushed from."""

    root: Path
    url: str = ""
    password: str = ""

    def commit(self, **files: str) -> None:
        work = self.root / "work"
        for name, content in files.items():
            path = work / name.replace("__", ".")
            path.write_text(content)
        self._git("add", "--all", cwd=work)
        self._git("commit", "--quiet", "-m", "Add", cwd=work)
        self._git("push", "--quiet", str(self.root / "models.git"), "HEAD:main", cwd=work)

    def create(self) -> None:
        (self.root / "work").mkdir(parents=True)
        self._git("init", "--quiet", "--bare", "--initial-branch=main", str(self.root / "models.git"), cwd=self.root)
        self._git("init", "--quiet", "--initial-branch=main", cwd=self.root / "work")

    def _git(self, *arguments: str, cwd: Path) -> None:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *identity, *arguments], cwd=cwd, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    monkeypatch.setattr(transfer, "BACKOFF_FIRST_S", 0.001)
    for name in ("GIT_USERNAME", "GIT_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    made = Repository(tmp_path / "git")
    made.create()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            expected = f"Basic {base64.b64encode(f'me:{made.password}'.encode()).decode()}"
            if made.password and self.headers.get("Authorization") != expected:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self._run_backend()

        do_POST = do_GET

        def _run_backend(self) -> None:
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            variables = {
                "GIT_PROJECT_ROOT": str(made.root), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query,
                "REQUEST_METHOD": self.command, "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            }  # fmt: skip
            answer = subprocess.run(
                ["git", "http-backend"], input=body, env={**os.environ, **variables}, capture_output=True, check=False
            ).stdout
            head, _, content = answer.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            self.send_response(int(headers.pop("Status", "200").split()[0]))
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        made.url = f"http://127.0.0.1:{running.server_address[1]}/models.git"
        yield made
        running.shutdown()
        thread.join()


def test_a_repository_is_its_newest_files_without_history(repository: Repository, tmp_path: Path) -> None:
    repository.commit(old="1", model__joblib="1")
    repository.commit(model__joblib="2")
    fetch(repository.url, tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == ["model.joblib", "old"]
    assert (tmp_path / "out/model.joblib").read_text() == "2"


def test_user_and_password_come_from_the_environment(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit(model="1")
    repository.password = "s3cret%"
    monkeypatch.setenv("GIT_PASSWORD", repository.password)
    fetch(repository.url.replace("//", "//me@"), tmp_path / "1")
    monkeypatch.setenv("GIT_USERNAME", "me")
    fetch(repository.url, tmp_path / "2")
    assert (tmp_path / "1/model").read_text() == (tmp_path / "2/model").read_text() == "1"


def test_a_refused_user_is_told_what_to_set(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit(model="1")
    repository.password = "right"
    with pytest.raises(AccessDenied, match=r"models\.git: .*set GIT_USERNAME and GIT_PASSWORD"):
        fetch(repository.url, tmp_path / "out")
    monkeypatch.setenv("GIT_USERNAME", "me")
    monkeypatch.setenv("GIT_PASSWORD", "wrong")
    with pytest.raises(AccessDenied) as refused:
        fetch(repository.url, tmp_path / "out")
    assert "wrong" not in str(refused.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_repository_that_is_not_there(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(NoSuchSource, match="check the repository in storageUri"):
        fetch(repository.url.replace("models", "none"), tmp_path / "out")


def test_an_empty_repository_is_no_model(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(NoSuchSource, match="no file in the repository"):
        fetch(repository.url, tmp_path / "out")


def test_links_out_of_the_repository_are_refused(repository: Repository, tmp_path: Path) -> None:
    (repository.root / "work/passwd").symlink_to("/etc/passwd")
    repository.commit(model="1")
    with pytest.raises(WrongContent, match="'passwd' points outside"):
        fetch(repository.url, tmp_path / "out")


def test_a_pointer_to_git_lfs_is_not_taken_for_a_model(repository: Repository, tmp_path: Path) -> None:
    repository.commit(model__bin=f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 5\n")
    with pytest.raises(WrongContent, match=r"model\.bin is kept in git-lfs"):
        fetch(repository.url, tmp_path / "out")


def test_a_pin_is_for_files(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(BadUri, match="not a repository"):
        fetch(f"{repository.url}#sha256={'0' * 64}", tmp_path / "out")
