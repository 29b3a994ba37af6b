"""Real processes: their exit codes whoever started them, and what they leave behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from onebox.home import Home
from onebox.node.process import RunningProcess, start_child
from onebox.node.process_table import Sweeper, scan
from onebox.node.reap import kill_all
from onebox.processes import ProcessId, identify
from tests.waiting import wait_for

SLEEP = "import time; print('up', flush=True); time.sleep(60)"


def start(home: Path, code: str, **env: str) -> int:
    """A Python process that carries the home in its environment."""
    environment = {"PATH": os.environ["PATH"], "LADLE_ONEBOX_HOME": str(home), "LADLE_POD_UID": "u", **env}
    with (home / "log").open("ab") as output:
        return start_child([sys.executable, "-c", code], env=environment, cwd=home, output=output.fileno())


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    kill_all(Home(tmp_path), 1.0)


@pytest.mark.parametrize(
    ("code", "wanted"), [("pass", 0), ("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", -9)]
)
async def test_a_childs_exit_code(home: Path, code: str, wanted: int) -> None:
    assert await RunningProcess.of_child(start(home, code)).ended() == wanted


async def test_a_signal_reaches_just_this_process(home: Path) -> None:
    process = RunningProcess.of_child(start(home, SLEEP))
    process.signal(signal.SIGTERM)
    assert await process.ended() == -signal.SIGTERM
    process.signal(signal.SIGTERM)  # Nobody is there any more, and nobody else is hit.


GRANDCHILD = f"""
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {SLEEP!r}], start_new_session=True)
print(child.pid, flush=True)
sys.exit(child.wait() & 0)
"""


def grandchild(home: Path) -> ProcessId:
    pid = int(wait_for("its pid", lambda: (home / "log").read_text().splitlines())[0])
    identity = identify(pid)
    assert identity is not None
    return identity


async def test_a_process_of_another_parent_is_waited_for_and_its_exit_code_asked_from_the_parent(home: Path) -> None:
    parent = RunningProcess.of_child(start(home, GRANDCHILD))
    identity = grandchild(home)

    async def told(asked: int) -> int:
        assert asked == identity.pid
        return 7

    adopted = RunningProcess.adopt(identity, told)
    assert adopted is not None
    adopted.signal(signal.SIGKILL)
    assert await adopted.ended() == 7
    assert await parent.ended() == 0


async def test_where_the_parent_cannot_tell_the_kernel_may(home: Path) -> None:
    parent = RunningProcess.of_child(start(home, GRANDCHILD))
    adopted = RunningProcess.adopt(grandchild(home))
    assert adopted is not None
    adopted.signal(signal.SIGKILL)
    # Before Linux 6.15 nobody knows.
    assert await adopted.ended() in (-signal.SIGKILL, None)
    assert await parent.ended() == 0


async def test_a_process_that_has_ended_cannot_be_adopted(home: Path) -> None:
    pid = start(home, "pass")
    identity = identify(pid)
    assert identity is not None
    assert await RunningProcess.of_child(pid).ended() == 0
    assert RunningProcess.adopt(identity) is None


async def test_a_pid_that_is_used_again_is_not_adopted(home: Path) -> None:
    pid = start(home, SLEEP)
    assert RunningProcess.adopt(ProcessId(pid, 1)) is None
    process = RunningProcess.of_child(pid)
    process.signal(signal.SIGKILL)
    await process.ended()


async def test_a_fork_that_has_ended_already_is_asked_for_at_its_parent(home: Path) -> None:
    async def told(_pid: int) -> int:
        return 4

    assert await RunningProcess.of_fork(ProcessId(2**22 - 1, 0), told).ended() == 4


async def test_a_sweep_ends_the_session_and_what_left_it(home: Path) -> None:
    code = f"""
import subprocess, sys
for new_session in (False, True):
    subprocess.Popen([sys.executable, "-c", {SLEEP!r}], start_new_session=new_session)
"""
    pid = start(home, code, LADLE_LAUNCH="run-1")
    other = start(home, SLEEP, LADLE_LAUNCH="run-2")
    assert await RunningProcess.of_child(pid).ended() == 0
    wait_for("three are up", lambda: (home / "log").read_text().count("up") == 3)
    assert await Sweeper(home).sweep("run-1", pid) == 2
    assert [seen.identity.pid for seen in scan(home)] == [other]


async def test_sweeps_at_the_same_time_share_their_looks(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    def counted(root: Path) -> list[object]:
        nonlocal looks
        looks += 1
        return []

    monkeypatch.setattr("onebox.node.process_table.scan", counted)
    sweeper = Sweeper(home)
    await asyncio.gather(*(sweeper.sweep("run", None) for _ in range(50)))
    # One that was under way when the others asked does not count for them: it may have passed their processes.
    assert looks <= 2


def test_a_scan_sees_sessions_and_environments(home: Path) -> None:
    pid = start(home, SLEEP, LADLE_LAUNCH="run-1")
    seen = wait_for("it is there", lambda: [found for found in scan(home) if found.identity.pid == pid])[0]
    assert seen.session == pid
    assert seen.variables["LADLE_LAUNCH"] == "run-1"


def test_reaping_ends_what_ignores_sigterm_and_leaves_components_alone(home: Path) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SLEEP
    start(home, stubborn)
    start(home, SLEEP)
    component = start(home, SLEEP, LADLE_COMPONENT="engine")
    wait_for("three are up", lambda: (home / "log").read_text().count("up") == 3)
    assert kill_all(Home(home), 0.2) == 2
    assert [seen.identity.pid for seen in scan(home)] == [component]
    os.kill(component, signal.SIGKILL)
    os.waitpid(component, 0)
    assert kill_all(Home(home), 0.2) == 0
