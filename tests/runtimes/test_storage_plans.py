"""What the storage core decides without touching anything: parts, places, filters, settings, what is shown."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.storage.objects import RemoteFile
from runtimes.storage.parts import Span, merge_spans, plan_parts
from runtimes.storage.selection import is_selected, plan_selection
from runtimes.storage.settings import Settings, parse_settings
from runtimes.storage.uri import BadSetting, NoSuchSource, WrongContent, printable


def spans(most: int) -> st.SearchStrategy[list[Span]]:
    return st.lists(st.tuples(st.integers(0, most), st.integers(0, most)).map(lambda pair: (min(pair), max(pair))))


@given(size=st.integers(0, 200), done=spans(200), part_bytes=st.one_of(st.none(), st.integers(1, 50)))
def test_parts_bring_every_byte_that_is_missing_and_no_other(
    size: int, done: list[Span], part_bytes: int | None
) -> None:
    parts = plan_parts(size, done, part_bytes)
    brought = [at for part in parts for at in range(part.start, part.end or 0)]
    there = {at for start, end in done for at in range(start, end)}
    assert sorted(brought) == sorted(set(range(size)) - there)
    assert all(part.end is not None and 0 < part.end - part.start <= (part_bytes or size) for part in parts)


@given(spans(100))
def test_merged_spans_hold_the_same_bytes_with_gaps_between(given_spans: list[Span]) -> None:
    merged = merge_spans(given_spans)
    assert {at for start, end in merged for at in range(start, end)} == {
        at for start, end in given_spans for at in range(start, end)
    }
    assert all(first[1] < second[0] for first, second in pairwise(merged))


def test_a_file_of_unknown_size_goes_on_after_its_first_bytes_only() -> None:
    assert [(part.start, part.end) for part in plan_parts(None, [(0, 3), (5, 9)], 4)] == [(3, None)]
    assert [(part.start, part.end) for part in plan_parts(None, [(5, 9)], 4)] == [(0, None)]


@pytest.mark.parametrize(
    ("path", "allow", "ignore", "selected"),
    [
        ("model.onnx", (), (), True),
        ("model.onnx", ("*.onnx",), (), True),
        ("onnx/model.onnx", ("*.onnx",), (), True),
        ("model.bin", ("*.onnx",), (), False),
        ("model.bin", (), ("*.bin",), False),
        ("model.bin", ("model.*",), ("*.bin",), False),
        ("Model.bin", ("model.*",), (), False),
        ("a/b.txt", (), ("a/*",), False),
    ],
)
def test_allowed_first_then_ignored(path: str, allow: tuple[str, ...], ignore: tuple[str, ...], selected: bool) -> None:
    assert is_selected(path, allow, ignore) is selected


def file(path: str) -> RemoteFile:
    return RemoteFile(path=path, size_bytes=1)


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "/etc/x", "a//b", "", ".", "a/./b", "a\0b", "a/", "n" * 256, "ä" * 128]
)
def test_a_name_that_has_no_place_in_the_destination_is_refused(path: str) -> None:
    with pytest.raises(WrongContent):
        plan_selection([file("model"), file(path)])


@pytest.mark.parametrize("path", ["a", "a/b", "..a", "a..", "a/...", "n" * 255, "ä" * 127, "a\\b"])
def test_any_other_name_is_taken(path: str) -> None:
    assert [taken.path for taken in plan_selection([file(path)])] == [path]


def test_a_file_that_is_also_a_directory_is_refused_unless_it_is_left_out() -> None:
    files = [file("a"), file("a/b")]
    with pytest.raises(WrongContent, match="'a' is a file and, for 'a/b', a directory"):
        plan_selection(files)
    assert plan_selection(files, ignore=("a",)) == (file("a/b"),)


def test_the_same_name_twice_is_refused() -> None:
    with pytest.raises(WrongContent, match="'a' is there twice"):
        plan_selection([file("a"), file("a")])


def test_patterns_that_leave_nothing_are_named() -> None:
    with pytest.raises(NoSuchSource, match=r"none of its 2 files .*STORAGE_ALLOW_PATTERNS=\*\.onnx,\*\.pb"):
        plan_selection([file("a"), file("b")], allow=("*.onnx", "*.pb"))


def test_patterns_are_a_json_array_or_a_list_with_commas() -> None:
    settings = parse_settings({"STORAGE_ALLOW_PATTERNS": '["*.a", "b,c"]', "STORAGE_IGNORE_PATTERNS": "*.x, *.y,"})
    assert (settings.allow, settings.ignore) == (("*.a", "b,c"), ("*.x", "*.y"))


def test_nothing_set_is_the_defaults() -> None:
    assert parse_settings({"LADLE_STORAGE_CACHE": " ", "S3_MAX_FILE_CONCURRENCY": ""}) == Settings()


def test_our_name_for_a_number_wins_over_kserves() -> None:
    assert parse_settings({"S3_MAX_FILE_CONCURRENCY": "7"}).file_concurrency == 7
    both = {"S3_MAX_FILE_CONCURRENCY": "7", "LADLE_STORAGE_FILE_CONCURRENCY": "2"}
    assert parse_settings(both).file_concurrency == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("S3_MAX_FILE_CONCURRENCY", "0"),
        ("LADLE_STORAGE_PART_CONCURRENCY", "65"),
        ("LADLE_STORAGE_PART_BYTES", "64Mi"),
        ("LADLE_STORAGE_CACHE_MAX_BYTES", "-1"),
        ("STORAGE_ALLOW_PATTERNS", "[1]"),
        ("STORAGE_IGNORE_PATTERNS", "[*.bin]"),
    ],
)
def test_a_wrong_setting_names_itself_and_its_value(name: str, value: str) -> None:
    with pytest.raises(BadSetting) as refused:
        parse_settings({name: value})
    assert str(refused.value).startswith(f"{name} = {value}, must be")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://me:pw@host:1/a/m.zip?X-Amz-Signature=s&x=1#sha256=00", "https://host:1/a/m.zip?...#sha256=00"),
        ("s3://bucket/a b", "s3://bucket/a b"),
        ("/a/path?with#signs", "/a/path?with#signs"),
        ("file:///a@b/c?d", "file:///a@b/c?d"),
        ("https://host/a@b", "https://host/a@b"),
    ],
)
def test_nothing_secret_of_a_uri_is_shown(uri: str, shown: str) -> None:
    assert printable(uri) == shown
