from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from controller.base.errors import UserError
from onebox.home import Home, OneboxSettings
from onebox.istio.bootstrap import (
    SOCKET_PATH_MAX,
    admin_socket,
    bootstrap_file,
    envoy_binary,
    envoy_command,
    workers,
    write_bootstrap,
)
from onebox.istio.files import ConfigFiles
from onebox.istio.registry import Listener
from tests.onebox.istio.envoy import driving, running_envoy
from tests.onebox.istio.objects import virtual_service


def test_tables_of_an_earlier_run_stay(tmp_path: Path) -> None:
    home = Home(tmp_path)
    write_bootstrap(home, OneboxSettings())
    files = ConfigFiles(home.envoy)
    files.clusters.write_text("kept")
    listeners = files.listeners.read_bytes()
    write_bootstrap(home, OneboxSettings(gateway_port=9999))
    assert files.clusters.read_text() == "kept"
    assert files.listeners.read_bytes() != listeners, "ports may have changed"


def test_nobody_else_reaches_the_admin_page(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    write_bootstrap(home, OneboxSettings())
    directory = admin_socket(home).parent
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    address = orjson.loads(bootstrap_file(home).read_bytes())["admin"]["address"]["pipe"]
    assert address == {"path": str(admin_socket(home)), "mode": 0o600}


def test_a_home_with_a_long_name_has_its_socket_elsewhere(tmp_path: Path) -> None:
    long = Home(tmp_path / ("x" * 120))
    other = Home(tmp_path / ("y" * 120))
    assert len(os.fsencode(admin_socket(long))) <= SOCKET_PATH_MAX
    assert admin_socket(long) != admin_socket(other)
    assert admin_socket(long) == admin_socket(Home(long.root))


def test_the_command_is_the_program_itself(tmp_path: Path) -> None:
    command = envoy_command(Home(tmp_path), OneboxSettings())
    assert command[0] == str(envoy_binary())
    assert os.access(command[0], os.X_OK)
    assert {"--reject-unknown-dynamic-fields", "--disable-hot-restart"} <= set(command)
    assert 1 <= workers() <= 4


def test_connections_leave_room_for_files(tmp_path: Path) -> None:
    home = Home(tmp_path)
    write_bootstrap(home, OneboxSettings())
    (monitor,) = orjson.loads(bootstrap_file(home).read_bytes())["overload_manager"]["resource_monitors"]
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert 0 < monitor["typed_config"]["max_active_downstream_connections"] <= max(1, soft // 2)


def test_somebody_elses_directory_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(UserError, match="belongs to another user"):
        write_bootstrap(Home(tmp_path), OneboxSettings())


async def test_several_homes_run_at_once(tmp_path: Path) -> None:
    long_name = "with a long name " * 6
    with running_envoy(tmp_path / "one") as one, running_envoy(tmp_path / long_name) as two:
        for envoy in (one, two):
            async with driving(envoy) as driver:
                spec = {"hosts": ["x.example.com"], "http": [{"directResponse": {"status": 200}}]}
                await driver.set_and_wait(virtual_service("x", spec))
        assert one.settings.gateway_port != two.settings.gateway_port
        assert "critical" not in one.log() + two.log()


async def test_a_start_without_any_route_is_quiet(tmp_path: Path) -> None:
    with running_envoy(tmp_path) as envoy:
        assert envoy.log() == ""
        for listener in Listener:
            assert ConfigFiles(envoy.home.envoy).routes(listener).exists()


def test_the_program_is_found_whatever_else_is_called_envoy(tmp_path: Path) -> None:
    """xds-protos brings an `envoy` package of its own; which one is imported depends on the order of installation."""
    (tmp_path / "envoy").mkdir()
    (tmp_path / "envoy" / "__init__.py").touch()
    code = "from onebox.istio.bootstrap import envoy_binary; print(envoy_binary())"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    seen = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert os.access(seen.stdout.strip(), os.X_OK)
