"""`https://.../repository.git`: the newest commit of the default branch, cloned by the git program, without its history.

User and password come from GIT_USERNAME and GIT_PASSWORD, as KServe takes them (a user may also be in the URI). They reach
git by its environment, for the URI's host alone, so that no process list, log or redirect shows them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from ladle.errors import StorageUnavailable, Unsupported
from runtimes.storage.archive import check_links
from runtimes.storage.publish import staged
from runtimes.storage.settings import Settings
from runtimes.storage.space import DiskFull, free_bytes, writing_to
from runtimes.storage.transfer import Retries, with_retries
from runtimes.storage.uri import AccessDenied, BadUri, NoSuchSource, StorageUri, WrongContent, printable

TIMEOUT_S = 3600.0
"""For one clone. A guess; a connection that stands still ends after a minute."""
_OPTIONS = {
    "core.hooksPath": "/dev/null",
    "protocol.allow": "never",
    "protocol.http.allow": "always",
    "protocol.https.allow": "always",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "60",
    "advice.detachedHead": "false",
}
_HELPER = '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" "$GIT_USERNAME" "$GIT_PASSWORD"; }; f'
_POINTER = b"version https://git-lfs.github.com/spec/"
_POINTER_BYTES_MAX = 1024
_REFUSED = ("authentication failed", "could not read username", "could not read password", "error: 403", "error: 401")
_MISSING = ("not found", "does not exist", "error: 404", "remote branch")


def fetch(uri: StorageUri, destination: Path, settings: Settings) -> None:  # noqa: ARG001  # KServe filters no clone.
    """Puts the files of the repository into `destination`. WrongContent for links out of it and files left in git-lfs."""
    if uri.sha256:
        raise BadUri("#sha256= pins a single file, not a repository")
    if shutil.which("git") is None:
        raise Unsupported("repositories are cloned by git, which is not installed where the initializer runs")
    with writing_to(destination), staged(destination) as staging:
        clone = staging.work / "clone"
        retries = Retries(source=printable(uri.location), stop=threading.Event())
        with_retries(partial(_clone, uri.location, clone), retries)
        shutil.rmtree(clone / ".git")
        _check(clone)
        for entry in clone.iterdir():
            os.replace(entry, staging.files / entry.name)


def _clone(location: str, clone: Path) -> None:
    shutil.rmtree(clone, ignore_errors=True)
    url, environment = _with_credentials(location, os.environ)
    options = [word for name, value in _OPTIONS.items() for word in ("-c", f"{name}={value}")]
    command = ["git", *options, "clone", "--quiet", "--depth=1", "--no-tags", "--", url, str(clone)]
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise StorageUnavailable(f"git did not finish within {TIMEOUT_S:.0f} s") from None
    if done.returncode:
        raise _failure(done.stderr.decode(errors="replace").strip(), clone.parent)


def _with_credentials(location: str, env: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The URL without a user, and the environment of git, which has the credentials for its host."""
    parts = urlsplit(location)
    host = parts.netloc.rpartition("@")[2]
    user = unquote(parts.username or "") or env.get("GIT_USERNAME", "")
    environment = {**env, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", "GIT_USERNAME": user}
    if env.get("SSL_CERT_FILE"):
        environment.setdefault("GIT_SSL_CAINFO", env["SSL_CERT_FILE"])
    helpers = {"credential.helper": ""}  # Empty: whatever the machine's user has configured is not asked.
    if user and env.get("GIT_PASSWORD"):
        helpers[f"credential.{parts.scheme}://{host}.helper"] = _HELPER
    environment["GIT_CONFIG_COUNT"] = str(len(helpers))
    for number, (name, value) in enumerate(helpers.items()):
        environment |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return urlunsplit(parts._replace(netloc=host)), environment


def _failure(said: str, folder: Path) -> Exception:
    lines = [line for line in said.splitlines() if line.strip()] or ["git failed without a word"]
    last = next((line for line in reversed(lines) if line.startswith(("fatal:", "error:", "remote:"))), lines[-1])
    lower = said.lower()
    if "no space left" in lower or "disk quota" in lower:
        return DiskFull(f"no space left at {folder}: {last}; {free_bytes(folder)} bytes are free")
    if any(words in lower for words in _REFUSED):
        return AccessDenied(f"{last}; set GIT_USERNAME and GIT_PASSWORD (a token) in a secret of the service account")
    if any(words in lower for words in _MISSING):
        return NoSuchSource(f"{last}; check the repository in storageUri")
    return StorageUnavailable(last)


def _check(clone: Path) -> None:
    files = [path for path in clone.rglob("*") if path.is_symlink() or path.is_file()]
    if not files:
        raise NoSuchSource("there is no file in the repository")
    check_links((path for path in files if path.is_symlink()), clone)
    for path in files:
        if path.is_symlink() or path.stat().st_size > _POINTER_BYTES_MAX:
            continue
        if path.read_bytes().startswith(_POINTER):
            raise WrongContent(
                f"{path.relative_to(clone)} is kept in git-lfs, and git-lfs is not installed where the initializer runs"
            )
