"""Where a onebox is, and that its files change in one step."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from controller.base.errors import UserError
from onebox.home import Home, OneboxSettings, write_atomically


def test_the_option_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LADLE_HOME", str(tmp_path / "environment"))
    assert Home.locate(str(tmp_path / "option")).root == tmp_path / "option"
    assert Home.locate().root == tmp_path / "environment"
    monkeypatch.delenv("LADLE_HOME")
    assert Home.locate().root == Path("~/.ladle").expanduser()


def test_a_relative_home_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Home.locate("box").root == tmp_path / "box"


def test_settings_come_back_as_they_were_written(tmp_path: Path) -> None:
    home = Home(tmp_path)
    settings = replace(OneboxSettings(), gateway_port=9080)
    home.write_settings(settings)
    assert home.settings() == settings


def test_a_home_that_was_never_started_says_how_to_start_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ladle up --home"):
        Home(tmp_path).settings()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    write_atomically(target, b"old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_files_are_private_unless_said_otherwise(tmp_path: Path) -> None:
    write_atomically(tmp_path / "secret", b"")
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
