"""Processes are known by pid and start time, found by their home, and ended for certain."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from onebox.processes import (
    HOME_VARIABLE,
    ProcessId,
    command_of,
    end,
    identify,
    processes_of,
    proportional_memory_bytes,
    wait_for_exit,
)
from tests.waiting import wait_for

SLEEP = (sys.executable, "-c", "import sys; sys.stdin.read()")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); sys.stdin.read()",
)


@pytest.fixture
def child(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, HOME_VARIABLE: str(tmp_path)}
    with subprocess.Popen(SLEEP, stdin=subprocess.PIPE, env=environment) as process:
        # The kernel shows command and environment some microseconds after it shows the process.
        wait_for("the new program", lambda: command_of(process.pid) == SLEEP and list(processes_of(tmp_path)))
        yield process
        process.kill()


def test_a_running_process_is_alive_until_it_ends(child: subprocess.Popen[bytes]) -> None:
    process = identify(child.pid)
    assert process is not None
    assert process.alive()
    assert end([process], grace_s=5) == 1
    assert not process.alive()


def test_a_pid_used_again_is_another_process(child: subprocess.Popen[bytes]) -> None:
    process = identify(child.pid)
    assert process is not None
    assert not ProcessId(process.pid, process.start_ticks - 1).alive()


def test_processes_are_found_by_their_home(child: subprocess.Popen[bytes], tmp_path: Path) -> None:
    found = {process.pid: environment for process, environment in processes_of(tmp_path)}
    assert set(found) == {child.pid}
    assert found[child.pid][HOME_VARIABLE] == str(tmp_path)
    assert not list(processes_of(tmp_path / "elsewhere"))


def test_the_command_of_a_process_is_what_it_was_started_with(child: subprocess.Popen[bytes]) -> None:
    assert command_of(child.pid) == SLEEP


def test_memory_of_a_process_is_at_most_what_it_has_resident(child: subprocess.Popen[bytes]) -> None:
    resident = int(Path(f"/proc/{child.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert 0 < proportional_memory_bytes(child.pid) <= resident
    assert proportional_memory_bytes(2**22 + 1) == 0


def test_what_ignores_sigterm_is_killed_at_the_deadline() -> None:
    with subprocess.Popen(STUBBORN, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        identity = identify(process.pid)
        assert identity is not None
        assert wait_for_exit([identity], timeout_s=0.05) == [identity]
        assert end([identity], grace_s=0.2) == 1
        assert not identity.alive()


def test_nothing_is_no_process() -> None:
    assert identify(2**22 + 1) is None
    assert command_of(2**22 + 1) == ()
    assert end([], grace_s=1) == 0
