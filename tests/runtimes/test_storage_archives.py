"""Hostile and broken archives: nothing outside the destination, nothing half-published, bounded memory and disk."""

from __future__ import annotations

import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from runtimes.storage import archive
from runtimes.storage.schemes import fetch
from runtimes.storage.uri import WrongContent

Change = Callable[[tarfile.TarInfo], None]


def entry(
    name: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, target: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, len(content)
    return info, content


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, kind=tarfile.SYMTYPE, target=target)


def hard_link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, kind=tarfile.LNKTYPE, target=target)


def pack_tar(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class Unpack:
    """Unpacks bytes as an archive of a name; `out` is where."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "deep/er/out"

    def __call__(self, content: bytes, name: str = "m.tar") -> list[str]:
        (self.folder / name).write_bytes(content)
        fetch(str(self.folder / name), self.out)
        return sorted(
            str(path.relative_to(self.out)) for path in self.out.rglob("*") if path.is_symlink() or not path.is_dir()
        )

    def refused(self, content: bytes, match: str, name: str = "m.tar") -> None:
        with pytest.raises(WrongContent, match=match):
            self(content, name)
        assert list(self.out.iterdir()) == []
        found = {str(path.relative_to(self.folder)) for path in self.folder.rglob("*")}
        assert found == {name, "deep", "deep/er", "deep/er/out"}


@pytest.fixture
def unpack(tmp_path: Path) -> Unpack:
    return Unpack(tmp_path)


@pytest.mark.parametrize(
    "entries",
    [
        [link("up", ".."), entry("up/x", b"1")],
        [link("a/up", "../.."), entry("a/up/x", b"1")],
        [link("etc", "/etc")],
        [link("a/b/up", "../.."), link("out", "a/b/up/..")],
        [link("a/here", "."), link("a/up", "here/../.."), link("x", "a/up/..")],
        [hard_link("passwd", "/etc/passwd")],
        [hard_link("x", "../x")],
        [hard_link("a/x", "a/../../x")],
    ],
    ids=[
        "file-through-link",
        "deep",
        "absolute",
        "link-chain",
        "three-links",
        "hard-absolute",
        "hard",
        "hard-in",
    ],
)
def test_links_that_leave_the_destination(entries: list[tuple[tarfile.TarInfo, bytes]], unpack: Unpack) -> None:
    unpack.refused(pack_tar(*entries), "points outside|link and something else|file and a directory")


def test_links_in_a_circle(unpack: Unpack) -> None:
    unpack.refused(pack_tar(link("a", "b"), link("b", "a")), "circle")


def test_links_that_stay_inside_work(unpack: Unpack) -> None:
    packed = pack_tar(
        entry("v/1/model", b"one"), link("v/latest", "1"), link("m", "v/latest/model"), hard_link("h", "v/1/model")
    )
    assert unpack(packed) == ["h", "m", "v/1/model", "v/latest"]
    assert (unpack.out / "m").read_bytes() == (unpack.out / "h").read_bytes() == b"one"


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_and_pipes(kind: bytes, unpack: Unpack) -> None:
    unpack.refused(pack_tar(entry("zero", kind=kind)), "'zero' is a device or a pipe")


def test_a_device_in_a_zip(unpack: Unpack) -> None:
    info = zipfile.ZipInfo("zero")
    info.external_attr = (stat.S_IFCHR | 0o666) << 16
    unpack.refused(pack_zip((info, b"")), "device", "m.zip")


def pack_zip(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members:
            made.writestr(name, content)
    return buffer.getvalue()


def test_a_link_in_a_zip_with_a_target_of_a_gigabyte(unpack: Unpack) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    unpack.refused(pack_zip((info, b"a" * 10_000)), "target of 10000 bytes", "m.zip")


@pytest.mark.parametrize(
    ("name", "wrapped"),
    [
        ("m.tar", bytes),
        ("m.tar.gz", gzip.compress),
        ("m.tgz", gzip.compress),
        ("m.tar.xz", lzma.compress),
        ("m.tgz", bytes),
    ],
)
def test_the_first_bytes_say_how_it_is_compressed(name: str, wrapped: Callable[[bytes], bytes], unpack: Unpack) -> None:
    assert unpack(wrapped(pack_tar(entry("model", b"1"))), name) == ["model"]


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "SMALL_BYTES", 10_000)
    monkeypatch.setattr(archive, "EXPANSION_MAX", 2)


@pytest.mark.usefixtures("small_limits")
class TestBombs:
    def test_one_large_entry(self, unpack: Unpack) -> None:
        unpack.refused(gzip.compress(pack_tar(entry("zeros", bytes(1_000_000)))), "unpacks to more than", "m.tgz")

    def test_many_small_entries(self, unpack: Unpack) -> None:
        packed = gzip.compress(pack_tar(*(entry(str(number), bytes(1000)) for number in range(100))))
        unpack.refused(packed, "unpacks to more than", "m.tgz")

    def test_a_sparse_entry_of_a_terabyte_is_refused_by_its_header(self, unpack: Unpack) -> None:
        info, _ = entry("sparse")
        header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        header[156:157] = tarfile.GNUTYPE_SPARSE
        header[386:410] = b"%011o\0" % 0 + b"%011o\0" % 0  # One piece, empty.
        header[483:495] = b"\x80" + struct.pack(">Q", 2**40).rjust(11, b"\0")
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        unpack.refused(bytes(header) + bytes(1024), "unpacks to more than")

    def test_a_header_of_gigabytes_is_not_read_into_memory(self, unpack: Unpack) -> None:
        info, _ = entry("pax", kind=tarfile.XHDTYPE)
        info.size = 8 * 2**30
        unpack.refused(
            gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(10_000)), "header of 8589934592 bytes", "m.tgz"
        )

    def test_too_many_entries(self, unpack: Unpack, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(archive, "ENTRIES_MAX", 10)
        unpack.refused(pack_tar(*(entry(str(number)) for number in range(11))), "more than 10 entries")

    def test_a_zip_of_zeros(self, unpack: Unpack) -> None:
        unpack.refused(pack_zip(("zeros", bytes(1_000_000))), "unpacks to more than", "m.zip")

    def test_a_zip_that_says_less_than_it_holds(self, unpack: Unpack) -> None:
        packed = pack_zip(("zeros", bytes(1_000_000)))
        lying = packed.replace(struct.pack("<L", 1_000_000), struct.pack("<L", 100))
        unpack.refused(lying, "could not be unpacked", "m.zip")


def test_names_that_differ_by_case_are_two_files(unpack: Unpack) -> None:
    assert unpack(pack_tar(entry("Model", b"1"), entry("model", b"2"))) == ["Model", "model"]


def test_of_an_entry_that_is_there_twice_the_last_one_counts_as_in_tar(unpack: Unpack) -> None:
    assert unpack(pack_tar(entry("model", b"old and long"), entry("model", b"new"))) == ["model"]
    assert (unpack.out / "model").read_bytes() == b"new"


@pytest.mark.parametrize(
    "entries",
    [
        [entry("a", b"1"), entry("a/b", b"2")],
        [entry("a/b", b"2"), entry("a", b"1")],
        [entry("a/b", b"2"), link("a", "c")],
        [entry("a", b"1"), entry("a", kind=tarfile.DIRTYPE)],
    ],
)
def test_what_is_two_things_at_once(entries: list[tuple[tarfile.TarInfo, bytes]], unpack: Unpack) -> None:
    unpack.refused(pack_tar(*entries), "at once")


@pytest.mark.parametrize("name", ["n" * 256, "/".join(["deep"] * 1000)])
def test_names_that_no_disk_holds(name: str, unpack: Unpack) -> None:
    unpack.refused(pack_tar(entry(name, b"1")), "longer name than a disk can hold")


@pytest.mark.parametrize("name", ["m.tar", "m.tar.gz", "m.tar.xz", "m.zip"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_archives_that_were_cut_off(name: str, share: float, unpack: Unpack) -> None:
    content = bytes(range(256)) * 40
    packed = pack_tar(entry("model", content))
    wrapped = {"m.tar": packed[:10_800], "m.tar.gz": gzip.compress(packed), "m.tar.xz": lzma.compress(packed)}
    whole = wrapped.get(name) or pack_zip(("model", content))
    unpack.refused(whole[: int(len(whole) * share)], "could not be unpacked", name)


@pytest.mark.parametrize("name", ["m.tar", "m.tar.gz", "m.zip"])
def test_what_is_no_archive(name: str, unpack: Unpack) -> None:
    unpack.refused(b"<html>no model here</html>" * 100, rf"{name} could not be unpacked", name)


@pytest.mark.parametrize(("name", "content"), [("m.tar", bytes(1024)), ("m.zip", pack_zip())])
def test_an_archive_of_nothing(name: str, content: bytes, unpack: Unpack) -> None:
    unpack.refused(content, "it is empty", name)


def test_a_wrong_checksum_in_a_zip(unpack: Unpack) -> None:
    packed = bytearray(pack_zip(("model", bytes(range(256)) * 4)))
    packed[60] ^= 0xFF
    unpack.refused(bytes(packed), "could not be unpacked", "m.zip")


def test_damage_that_only_the_checksum_at_the_end_shows(unpack: Unpack) -> None:
    packed = bytearray(gzip.compress(pack_tar(entry("model", bytes(100))), compresslevel=0))
    packed[packed.index(bytes(100)) + 50 + 512] ^= 0xFF
    unpack.refused(bytes(packed), "CRC check failed", "m.tgz")


def test_modes_of_entries_are_not_taken(unpack: Unpack) -> None:
    info, content = entry("model", b"1")
    info.mode = 0o6777
    unpack(pack_tar((info, content)))
    assert (unpack.out / "model").stat().st_mode & 0o7111 == 0
