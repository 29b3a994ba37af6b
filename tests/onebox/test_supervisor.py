"""The supervisor restarts what dies, adopts what an earlier one left, starts nothing twice."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from onebox.components import TEMPLATE, Component, write_components
from onebox.home import Home, OneboxSettings
from onebox.processes import ProcessId, command_of, end, processes_of
from onebox.supervisor import Supervisor, decide_backoff_s, read_record, record_path, sole_supervisor, supervisor_pid
from tests.waiting import wait_for

SLEEPER = Component(name="sleeper", command=(sys.executable, "-c", "import signal; signal.pause()"), purpose="sleeps")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    yield Home(tmp_path)
    end([process for process, _ in processes_of(tmp_path)], grace_s=5)


def running(home: Home) -> ProcessId:
    recorded = read_record(home, "sleeper")
    assert recorded
    # The kernel shows the environment of a new process some microseconds after it shows the process.
    wait_for("the environment", lambda: any(process == recorded[0] for process, _ in processes_of(home.root)))
    return recorded[0]


def test_a_missing_component_is_started_once(home: Home) -> None:
    supervisor = Supervisor(home, (SLEEPER,))
    supervisor.supervise()
    first = running(home)
    supervisor.supervise()
    assert running(home) == first
    assert first.alive()


def test_a_component_that_dies_is_started_again(home: Home) -> None:
    supervisor = Supervisor(home, (SLEEPER,))
    supervisor.supervise()
    first = running(home)
    end([first], grace_s=5)

    def restarted() -> bool:
        supervisor.supervise()
        return read_record(home, "sleeper") != (first, 0)

    wait_for("a second process", restarted)
    recorded = read_record(home, "sleeper")
    assert recorded is not None
    assert recorded[1] == 1


def test_the_next_supervisor_adopts_what_runs(home: Home) -> None:
    Supervisor(home, (SLEEPER,)).supervise()
    first = running(home)
    second = Supervisor(home, (SLEEPER,))
    second.adopt()
    second.supervise()
    assert running(home) == first
    assert first.alive()


def test_a_component_started_but_never_written_down_is_ended(home: Home) -> None:
    Supervisor(home, (SLEEPER,)).supervise()
    stray = running(home)
    record_path(home, "sleeper").unlink()
    Supervisor(home, (SLEEPER,)).adopt()
    assert not stray.alive()


def test_adoption_leaves_processes_with_other_commands_alone(home: Home) -> None:
    """A pod inherits the environment of the node that started it."""
    supervisor = Supervisor(home, (SLEEPER,))
    supervisor.supervise()
    pod = running(home)
    record_path(home, "sleeper").unlink()
    other = Component(
        name="sleeper", command=(sys.executable, "-c", "import signal; signal.pause()", "another"), purpose="sleeps"
    )
    Supervisor(home, (other,)).adopt()
    assert pod.alive()


def test_one_home_has_one_supervisor(home: Home) -> None:
    assert supervisor_pid(home) is None
    with sole_supervisor(home) as first:
        assert first is not None
        with sole_supervisor(home) as second:
            assert second is None
        code = f"from onebox.supervisor import *; print(supervisor_pid(Home(Path({str(home.root)!r}))))"
        seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert int(seen.stdout) > 0
    assert supervisor_pid(home) is None


def test_everything_ends_with_its_home(home: Home) -> None:
    home.write_settings(OneboxSettings())
    write_components(home, (SLEEPER,))
    supervisor = subprocess.Popen([sys.executable, "-m", "onebox.supervisor", "--home", str(home.root)])
    wait_for("the sleeper runs", lambda: read_record(home, "sleeper"))
    sleeper = running(home)
    shutil.rmtree(home.root)
    assert supervisor.wait(60) == 0
    wait_for("the sleeper is gone", lambda: not sleeper.alive())


MakeSupervisor = Callable[..., Supervisor]


@pytest.fixture
def supervisors(home: Home) -> Iterator[MakeSupervisor]:
    """Makes supervisors of some components, and closes them."""
    with contextlib.ExitStack() as stack:

        def make(*wanted: Component) -> Supervisor:
            supervisor = Supervisor(home, wanted)
            stack.callback(supervisor.close)
            return supervisor

        yield make


def parent(process: ProcessId) -> int:
    return int(Path(f"/proc/{process.pid}/stat").read_bytes().rpartition(b")")[2].split()[1])


def with_template(home: Home, *, template: tuple[str, ...] | None = None) -> tuple[Component, Component]:
    """A template, and a component for it to fork: a module beside the template, since it works in the home."""
    (home.root / "sleeps.py").write_text("import signal\n\ndef main(argv):\n    signal.pause()\n    return 0\n")
    home.run.mkdir(exist_ok=True)
    command = (sys.executable, "-m", "ladle.server.template", "--socket", str(home.template_socket))
    sleeper = Component(
        name="sleeper",
        command=(sys.executable, "-c", "import sleeps; sleeps.main([])"),
        purpose="sleeps",
        module="sleeps",
    )
    return Component(name=TEMPLATE, command=template or command, purpose="forks"), sleeper


def supervised(home: Home, supervisor: Supervisor, name: str, *, instead_of: ProcessId | None = None) -> ProcessId:
    """The process that a supervisor made of a component, once it runs."""

    def found() -> ProcessId | None:
        supervisor.supervise()
        recorded = read_record(home, name)
        return recorded[0] if recorded and recorded[0] != instead_of and recorded[0].alive() else None

    process = wait_for(f"{name} runs", found, timeout_s=60)
    assert process is not None
    return process


def test_a_component_is_forked_from_the_template_and_outlives_it(home: Home, supervisors: MakeSupervisor) -> None:
    supervisor = supervisors(*with_template(home))
    sleeper = supervised(home, supervisor, "sleeper")
    template = supervised(home, supervisor, TEMPLATE)
    assert parent(sleeper) == template.pid
    end([template], grace_s=0)
    again = supervised(home, supervisor, TEMPLATE, instead_of=template)
    assert sleeper.alive()
    end([sleeper], grace_s=5)
    assert parent(supervised(home, supervisor, "sleeper", instead_of=sleeper)) == again.pid


def test_the_next_supervisor_forks_from_the_template_that_it_adopts(home: Home, supervisors: MakeSupervisor) -> None:
    wanted = with_template(home)
    first = supervised(home, supervisors(*wanted), "sleeper")
    second = supervisors(*wanted)
    second.adopt()
    template = supervised(home, second, TEMPLATE)
    assert supervised(home, second, "sleeper") == first
    end([first], grace_s=5)
    assert parent(supervised(home, second, "sleeper", instead_of=first)) == template.pid


def test_a_fork_that_was_never_written_down_is_ended(home: Home, supervisors: MakeSupervisor) -> None:
    wanted = with_template(home)
    stray = supervised(home, supervisors(*wanted), "sleeper")
    record_path(home, "sleeper").unlink()
    second = supervisors(*wanted)
    second.adopt()
    assert not stray.alive()
    assert supervised(home, second, TEMPLATE).alive()


def test_without_a_template_a_component_is_a_process_of_its_own(home: Home, supervisors: MakeSupervisor) -> None:
    broken = (sys.executable, "-c", "raise SystemExit('no template today')")
    sleeper = supervised(home, supervisors(*with_template(home, template=broken)), "sleeper")
    wait_for("its own command", lambda: "sleeps.main" in "".join(command_of(sleeper.pid)))


def test_the_supervisor_needs_only_the_standard_library() -> None:
    code = (
        "import sys, onebox.supervisor; "
        "print([m for m in ('structlog', 'asyncio', 'pydantic', 'aiohttp', 'orjson', 'onebox.istio') if m in sys.modules])"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("exit_code", "ran_s", "expected_s"),
    [
        (1, 1.0, 1.6),
        (1, 20.0, 1.6),
        (1, 31.0, 0.1),
        (None, 20.0, 1.6),
        (-signal.SIGKILL, 20.0, 0.1),
        (-signal.SIGKILL, 1.0, 1.6),
        (-signal.SIGSEGV, 20.0, 1.6),
    ],
)
def test_who_was_killed_while_it_worked_is_back_at_once(exit_code: int | None, ran_s: float, expected_s: float) -> None:
    assert decide_backoff_s(1.6, exit_code, ran_s) == expected_s
