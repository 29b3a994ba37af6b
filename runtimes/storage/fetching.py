"""From a listed source to files in their destination: what every store has in common.

    list -> choose -> check the space -> bring each file (cache, or parts) -> check each -> unpack -> publish

Where a file changes while it is read, everything begins with a new list; files that did not change are there already.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ladle.clock import Clock
from ladle.errors import StorageUnavailable
from ladle.log import get_logger
from runtimes.storage.archive import is_archive, unpack
from runtimes.storage.cache import Cache, Known
from runtimes.storage.checks import check_content
from runtimes.storage.objects import Algorithm, Changed, RemoteFile, Source
from runtimes.storage.parallel import run_all
from runtimes.storage.progress import Progress
from runtimes.storage.publish import Staging, staged
from runtimes.storage.selection import plan_selection
from runtimes.storage.settings import Settings
from runtimes.storage.space import check_space, free_bytes, writing_to
from runtimes.storage.transfer import CONTENT, Carrier, Retries, with_retries
from runtimes.storage.uri import BadUri, StorageUri, WrongContent, printable

LISTINGS_MAX = 3
"""Times that a source may change under our hands before it is given up. A guess."""
_DAMAGES_MAX = 2
"""Times that a file may come with another digest than its store states."""

log = get_logger("runtimes.storage")


def plan_key(location: str, *parts: object) -> str:
    """A name for a file of a source in one version: hexadecimal, 40 digits."""
    return hashlib.sha256(json.dumps([location, *parts]).encode()).hexdigest()[:40]


def fetch_source(source: Source, uri: StorageUri, destination: Path, *, settings: Settings, clock: Clock) -> None:
    """Puts the files of `source` into the directory `destination`; a single archive is unpacked.

    UserError where the source or its content is wrong, TransientError where it did not answer or the disk did not take it.
    """
    shown = printable(uri.location)
    cache = _open_cache(settings, clock)
    progress = Progress(shown, clock)
    with contextlib.closing(source), writing_to(destination), staged(destination, plan_key(uri.location)) as staging:
        run = _Run(
            source=source, uri=uri, settings=settings, cache=cache, clock=clock, staging=staging, progress=progress
        )
        if not run.take_pinned():
            run.fetch()
    if progress.received_bytes:
        rate = progress.rate(clock.monotonic_s())
        log.info("downloaded", source=shown, bytes=progress.received_bytes, mb_per_s=rate)
    if cache is not None:
        cache.make_room(0)


def _open_cache(settings: Settings, clock: Clock) -> Cache | None:
    if settings.cache is None:
        return None
    try:
        return Cache(settings.cache, settings.cache_bytes_max, clock)
    except OSError as error:  # A cache saves time; its loss must not cost the model.
        log.warning("cache cannot be used", path=str(settings.cache), reason=error.strerror or str(error))
        return None


@dataclass(slots=True, kw_only=True)
class _Run:
    """One source on its way into one destination."""

    source: Source
    uri: StorageUri
    settings: Settings
    cache: Cache | None
    clock: Clock
    staging: Staging
    progress: Progress

    def take_pinned(self) -> bool:
        """Whether content that the URI pins was in the cache: then nobody has to be asked."""
        if self.cache is None or not self.uri.sha256:
            return False
        known = self.cache.known(self._pin_key)
        if known is None or known.sha256 != self.uri.sha256:
            return False
        file = RemoteFile(path=known.path, size_bytes=None)
        if not self._place(known.sha256, file):
            return False
        self._arrange((file,))
        return True

    def fetch(self) -> None:
        for listing in range(LISTINGS_MAX):
            files = self._list()
            try:
                self._bring_all(files)
                break
            except Changed as error:
                if listing == LISTINGS_MAX - 1:
                    raise StorageUnavailable(f"it changed {LISTINGS_MAX} times while it was read: {error}") from error
                log.warning("source changed while it was read", source=self._shown, reason=str(error))
        self._arrange(files)

    def _list(self) -> tuple[RemoteFile, ...]:
        retries = Retries(source=self._shown, stop=threading.Event())
        listed = with_retries(self.source.list, retries)
        files = plan_selection(listed, self.settings.allow, self.settings.ignore)
        if self.uri.sha256 and len(files) != 1:
            raise BadUri(f"#sha256= pins a single file, and there are {len(files)}")
        return files

    def _bring_all(self, files: Sequence[RemoteFile]) -> None:
        sizes = [file.size_bytes for file in files]
        self.progress.expect(None if None in sizes else sum(size for size in sizes if size))
        self._check_space(files)
        carrier = Carrier(
            source=self.source, shown=self._shown, settings=self.settings, progress=self.progress, clock=self.clock,
            stop=threading.Event(),
        )  # fmt: skip
        most = min(self.settings.file_concurrency, len(files))
        run_all((partial(self._bring, file, carrier) for file in files), most=most, stop=carrier.stop)

    def _bring(self, file: RemoteFile, carrier: Carrier) -> None:
        """The file is where `_content_of` says, checked."""
        self._linked(file).unlink(missing_ok=True)  # An attempt that was killed may have left another version.
        if self._take_cached(file):
            self.progress.already(file.size_bytes or 0)
            return
        if self._cacheable(file) and self._bring_through_cache(file, carrier):
            return
        folder = self.staging.work / self._key(file)
        self._carry(file, folder, carrier, name_content=False)

    def _bring_through_cache(self, file: RemoteFile, carrier: Carrier) -> bool:
        assert self.cache is not None, "only asked where there is one"
        key = self._key(file)
        with self.cache.claim(key, carrier.stop) as folder:
            if folder is None:
                return False
            if self._take_cached(file):  # By whom we waited for.
                self.progress.already(file.size_bytes or 0)
                return True
            sha256 = self._carry(file, folder, carrier, name_content=True)
            self.cache.add(folder / CONTENT, Known(sha256, file.path), key)
            if self.uri.sha256:
                self.cache.note(Known(sha256, file.path), self._pin_key)
            self.cache.discard(key)
            return self._place(sha256, file)

    def _carry(self, file: RemoteFile, folder: Path, carrier: Carrier, *, name_content: bool) -> str:
        damages = 0
        while True:
            content = carrier.carry(file, folder)
            try:
                return check_content(content, file, self.uri.sha256, name_content=name_content)
            except WrongContent as error:
                shutil.rmtree(folder, ignore_errors=True)
                damages += 1
                if file.digest is None or damages >= _DAMAGES_MAX:
                    raise
                log.warning("file came damaged, it is fetched again", source=self._shown, reason=str(error))
                self.progress.already(-(file.size_bytes or 0))

    def _take_cached(self, file: RemoteFile) -> bool:
        if self.cache is None or not self._cacheable(file):
            return False
        stated = file.digest.hexadecimal if file.digest and file.digest.algorithm is Algorithm.SHA256 else ""
        known = self.cache.known(self._key(file))
        sha256 = self.uri.sha256 or stated or (known.sha256 if known else "")
        if not sha256 or (known and known.sha256 != sha256):
            return False
        return self._place(sha256, file)

    def _place(self, sha256: str, file: RemoteFile) -> bool:
        assert self.cache is not None, "only asked where there is one"
        target = self._linked(file)
        target.unlink(missing_ok=True)
        return self.cache.place(sha256, target)

    def _arrange(self, files: Sequence[RemoteFile]) -> None:
        """Moves what was brought to its names in `staging.files`, or unpacks it there."""
        if len(files) == 1 and is_archive(files[0].path):
            archive = self.staging.work / "archive" / files[0].path
            archive.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self._content_of(files[0]), archive)
            unpack(archive, self.staging.files, content_type=files[0].content_type)
            return
        for file in files:
            target = self.staging.files / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self._content_of(file), target)

    def _content_of(self, file: RemoteFile) -> Path:
        linked = self._linked(file)
        return linked if linked.exists() else self.staging.work / self._key(file) / CONTENT

    def _linked(self, file: RemoteFile) -> Path:
        # By path alone: a pinned file is taken before its version is known.
        return self.staging.work / f"cached-{plan_key(self.uri.location, file.path)}"

    def _check_space(self, files: Sequence[RemoteFile]) -> None:
        missing = [file for file in files if not self._is_known(file)]
        needed_bytes = sum(file.size_bytes or 0 for file in missing)
        if self.cache is not None:
            self.cache.make_room(needed_bytes)
            there_bytes = sum(self.cache.done_bytes(self._key(file)) for file in missing)
            if needed_bytes - there_bytes > free_bytes(self.cache.root):
                log.warning("cache has no room", path=str(self.cache.root), needed_bytes=needed_bytes)
                self.cache = None
            elif _device(self.cache.root) == _device(self.staging.work):
                return  # Linked, not copied.
            else:
                needed_bytes = sum(file.size_bytes or 0 for file in files)
        there_bytes = sum(_allocated_bytes(self.staging.work / self._key(file) / CONTENT) for file in missing)
        check_space(self.staging.work, needed_bytes - there_bytes)

    def _is_known(self, file: RemoteFile) -> bool:
        return self.cache is not None and self.cache.known(self._key(file)) is not None

    def _cacheable(self, file: RemoteFile) -> bool:
        named = file.version is not None or self.uri.sha256
        return bool(self.cache and named and (file.size_bytes or 0) <= self.settings.cache_bytes_max)

    def _key(self, file: RemoteFile) -> str:
        return plan_key(self.uri.location, file.path, file.version, file.size_bytes)

    @property
    def _pin_key(self) -> str:
        return plan_key(self.uri.location, "pinned", self.uri.sha256)

    @property
    def _shown(self) -> str:
        return printable(self.uri.location)


def _device(path: Path) -> int:
    return path.stat().st_dev


def _allocated_bytes(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return 0
