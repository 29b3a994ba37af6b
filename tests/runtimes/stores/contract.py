"""What every object store does alike: list below a path, read ranges, notice what changed, say what is missing.

The test module of a store has a fixture `store`, and a class that inherits these tests.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import Protocol

import pytest

from runtimes.storage.objects import Algorithm, Changed, Digest, Source
from runtimes.storage.uri import NoSuchSource
from tests.runtimes.stores.sources import contents

BUCKET = "models"
MISSING_BUCKET = "no-such-bucket"


class Store(Protocol):
    """An empty bucket of one store, by the store's own client; and Ladle's way to open what is in it."""

    def put(self, name: str, content: bytes) -> None:
        """Writes an object, or replaces it."""
        ...

    def mark_directory(self, name: str) -> None:
        """Leaves what the store's tools leave for a directory."""
        ...

    def delete(self, name: str) -> None: ...

    def open(self, path: str, bucket: str = BUCKET) -> Source:
        """What the storage initializer makes of a URI to this path."""
        ...


class ObjectStoreContract:
    """Inherit as `class TestFiles(ObjectStoreContract)`."""

    def test_what_is_below_a_path_ends_at_a_slash(self, store: Store) -> None:
        for name in ("a/b/model", "a/b/deep/config", "a/bc/model", "a/bc"):
            store.put(name, name.encode())
        assert contents(store.open("a/b")) == {"model": b"a/b/model", "deep/config": b"a/b/deep/config"}

    def test_empty_files_stay_and_directory_marks_do_not(self, store: Store) -> None:
        store.put("m/empty", b"")
        store.put("m/model", b"1")
        store.mark_directory("m/deep")
        assert contents(store.open("m")) == {"empty": b"", "model": b"1"}

    @pytest.mark.parametrize("path", ["m/model.bin", "/m/model.bin"])
    def test_one_object_keeps_its_name(self, store: Store, path: str) -> None:
        store.put("m/model.bin", b"12")
        store.put("m/model.bin2", b"other")
        assert contents(store.open(path)) == {"model.bin": b"12"}

    def test_a_path_with_a_slash_at_its_end_is_no_object(self, store: Store) -> None:
        store.put("m", b"other")
        store.put("m/model", b"12")
        assert contents(store.open("m/")) == {"model": b"12"}

    def test_a_bucket_alone_is_all_of_it(self, store: Store) -> None:
        store.put("model", b"12")
        store.put("a/b", b"3")
        assert contents(store.open("")) == {"model": b"12", "a/b": b"3"}

    def test_names_may_be_any_text(self, store: Store) -> None:
        names = ["a b.txt", "ü+%20.bin", "x=y&z"]
        for name in names:
            store.put(f"my models/{name}", name.encode())
        assert contents(store.open("my models")) == {name: name.encode() for name in names}

    def test_a_range_is_the_bytes_asked_for(self, store: Store) -> None:
        store.put("m", bytes(range(100)))
        with contextlib.closing(store.open("m")) as opened:
            (file,) = opened.list()
            assert b"".join(opened.read(file, 10, 5)) == bytes(range(10, 15))

    def test_the_digest_is_that_of_the_content(self, store: Store) -> None:
        store.put("m", b"1234")
        with contextlib.closing(store.open("m")) as opened:
            (file,) = opened.list()
        assert file.digest == Digest(Algorithm.MD5, hashlib.md5(b"1234").hexdigest())

    def test_what_was_deleted_is_noticed(self, store: Store) -> None:
        store.put("m", b"1234")
        with contextlib.closing(store.open("m")) as opened:
            (file,) = opened.list()
            store.delete("m")
            with pytest.raises(Changed, match="m is not what was listed"):
                list(opened.read(file, 0, None))

    def test_nothing_below_the_path(self, store: Store) -> None:
        store.put("other", b"1")
        with pytest.raises(NoSuchSource, match=f"at some/path in .* {BUCKET}.*check the (path|URI)"):
            store.open("some/path").list()

    def test_a_missing_bucket(self, store: Store) -> None:
        with pytest.raises(NoSuchSource, match=f"{MISSING_BUCKET} does not exist"):
            store.open("m", MISSING_BUCKET).list()


class ReplacementContract:
    """For stores whose server in the tests tells one content of a name from another."""

    def test_what_was_replaced_is_noticed(self, store: Store) -> None:
        store.put("m", b"1234")
        with contextlib.closing(store.open("m")) as opened:
            (file,) = opened.list()
            store.put("m", b"5678")
            with pytest.raises(Changed, match="m is not what was listed"):
                list(opened.read(file, 0, None))
