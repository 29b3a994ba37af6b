"""Real templates: forks, adoption by the next node, and that nobody is left behind when one dies."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from onebox.home import Home
from onebox.node.launch_spec import LaunchSpec
from onebox.node.launcher import Launcher, StartError
from onebox.node.process_table import scan
from onebox.node.reap import kill_all
from onebox.node.template import Template, template_records
from onebox.processes import HOME_VARIABLE, ProcessId
from tests.waiting import eventually

MODULE = "tests.onebox.node.forked"
REPOSITORY = str(Path(__file__).parents[3])


@pytest.fixture
def home(tmp_path: Path) -> Any:
    # Longer than the 107 bytes that an address of a unix socket may have.
    root = tmp_path / ("deep" * 30) / "home"
    root.mkdir(parents=True)
    yield Home(root)
    kill_all(Home(root), 1.0)


def environment(home: Home) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": REPOSITORY, HOME_VARIABLE: str(home.root)}


def spec(home: Home, *argv: str, template: str = "forked") -> LaunchSpec:
    launch = str(uuid.uuid4())
    return LaunchSpec(
        launch=launch,
        argv=argv,
        env={**environment(home), "LADLE_POD_UID": "u", "LADLE_LAUNCH": launch, "WORD": "hello"},
        cwd=home.root / "cwd",
        log=home.root / "logs" / f"{launch}.log",
        termination_log=home.root / "termination",
        module=MODULE,
        template=template,
    )


@asynccontextmanager
async def running(
    home: Home, *, wait: bool = True, on_demand: bool = False
) -> AsyncIterator[tuple[Template, Launcher]]:
    """A node's side of one template, as long as the block lasts."""
    modules = (f"{MODULE}.__main__",)
    template = Template(home, "forked", modules, inherited=environment(home), on_demand=on_demand)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        task = group.create_task(template.run())
        if wait:
            await until_ready(template)
        yield template, Launcher({"forked": template})
        task.cancel()


async def until_ready(template: Template) -> None:
    async def ready() -> bool:
        return template.ready

    await eventually("the template is ready", ready)


def recorded(home: Home) -> ProcessId:
    return template_records(home)["forked"].process


async def said(log: Path) -> list[str]:
    async def look() -> list[str]:
        return words(log)

    return await eventually("it has said who it is", look)


def words(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def leaders(home: Home) -> set[ProcessId]:
    return {seen.identity for seen in scan(home.root) if seen.session == seen.identity.pid}


async def test_a_forked_process_is_as_its_spec_says(home: Home) -> None:
    async with running(home) as (_, launcher):
        wanted = spec(home)
        process = await launcher.start(wanted)
        assert await said(wanted.log) == [str(process.identity.pid), "hello", str(wanted.cwd)]
        assert os.getsid(process.identity.pid) == process.identity.pid
        assert parent_of(process.identity.pid) == recorded(home).pid
        process.signal(signal.SIGTERM)
        assert await process.ended() == 5


@pytest.mark.parametrize("code", [0, 3])
async def test_the_exit_code_of_a_process_that_ends_at_once_is_known(home: Home, code: int) -> None:
    async with running(home) as (_, launcher):
        processes = [await launcher.start(spec(home, str(code))) for _ in range(5)]
        assert [await process.ended() for process in processes] == [code] * 5


async def test_before_a_template_is_ready_processes_start_without_it(home: Home) -> None:
    async with running(home, wait=False) as (template, launcher):
        assert not template.ready
        process = await launcher.start(spec(home, "4"))
        assert await process.ended() == 4
    ordinary = await Launcher({}).start(spec(home, "4", template="nobody"))
    assert await ordinary.ended() == 4


async def test_a_template_on_demand_starts_after_the_first_process_that_it_could_have_forked(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onebox.node.template.ON_DEMAND_DELAY_S", 0)
    async with running(home, wait=False, on_demand=True) as (template, launcher):
        assert await (await launcher.start(spec(home, "4"))).ended() == 4
        await until_ready(template)
        wanted = spec(home)
        process = await launcher.start(wanted)
        await said(wanted.log)
        assert parent_of(process.identity.pid) == recorded(home).pid
        process.signal(signal.SIGTERM)
        assert await process.ended() == 5


async def test_a_template_on_demand_that_nobody_demands_is_not_started(home: Home) -> None:
    async with running(home, wait=False, on_demand=True) as (_, launcher):
        ordinary = await launcher.start(spec(home, "4", template="another"))
        assert await ordinary.ended() == 4
        assert template_records(home) == {}


async def test_what_cannot_be_executed_says_so(home: Home) -> None:
    missing = LaunchSpec(
        launch="l",
        argv=("no-such-program",),
        env={"PATH": "/bin"},
        cwd=home.root,
        log=home.root / "x.log",
        termination_log=home.root / "t",
    )
    with pytest.raises(StartError, match=r'exec: "no-such-program": executable file not found in \$PATH'):
        await Launcher({}).start(missing)


async def test_template_and_children_outlive_the_node_and_the_next_one_goes_on_with_them(home: Home) -> None:
    async with running(home) as (_, launcher):
        child = await launcher.start(spec(home))
        dying = await launcher.start(spec(home))
        before = recorded(home)
        child.close()
        dying.close()
    async with running(home) as (_, launcher):
        assert recorded(home) == before
        adopted = launcher.adopt(child.identity)
        assert adopted is not None
        adopted.signal(signal.SIGTERM)
        assert await adopted.ended() == 5
        again = await launcher.start(spec(home, "0"))
        assert await again.ended() == 0


async def test_a_template_that_dies_is_replaced_and_its_children_live_on(home: Home) -> None:
    async with running(home) as (template, launcher):
        child = await launcher.start(spec(home))
        before = recorded(home)
        before.signal(signal.SIGKILL)

        async def replaced() -> bool:
            return template.ready and recorded(home) != before

        await eventually("another template is ready", replaced)
        assert child.identity.alive()
        child.signal(signal.SIGTERM)
        assert await child.ended() in (5, None)  # None: an older kernel, and nobody left to ask.


async def test_a_template_that_is_killed_is_replaced_by_its_spare(home: Home) -> None:
    async with running(home) as (template, launcher):
        child = await launcher.start(spec(home))
        before = recorded(home)

        async def look() -> list[int]:
            forked = [process.pid for process in psutil.Process(before.pid).children()]
            return [pid for pid in forked if pid != child.identity.pid]

        (spare,) = await eventually("a spare", look)
        before.signal(signal.SIGKILL)

        async def replaced() -> bool:
            return template.ready and recorded(home).pid == spare

        await eventually("the spare has its place", replaced)
        wanted = spec(home)
        process = await launcher.start(wanted)
        assert await said(wanted.log)
        assert parent_of(process.identity.pid) == spare
        for each, code in ((process, (5,)), (child, (5, None))):  # None: an older kernel, and nobody left to ask.
            each.signal(signal.SIGTERM)
            assert await each.ended() in code


async def test_a_fork_that_is_not_answered_leaves_no_process_and_one_is_started_without_it(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onebox.node.template.FORK_TIMEOUT_S", 0.2)
    async with running(home) as (template, launcher):
        kept = await launcher.start(spec(home))
        recorded(home).signal(signal.SIGSTOP)
        wanted = spec(home)
        process = await launcher.start(wanted)
        assert await said(wanted.log)
        await until_ready(template)
        assert leaders(home) == {kept.identity, process.identity, recorded(home)}
        for each in (kept, process):
            each.signal(signal.SIGKILL)
            await each.ended()


async def test_a_child_whose_answer_was_lost_is_ended_with_its_template(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(home) as (template, launcher):
        kept = await launcher.start(spec(home))
        lost, take = spec(home), template._take
        monkeypatch.setattr(template, "_take", lambda told: None if told.get("id") == lost.launch else take(told))
        async with asyncio.TaskGroup() as group:
            starting = group.create_task(launcher.start(lost))
            first = int((await said(lost.log))[0])
            recorded(home).signal(signal.SIGKILL)
        process = starting.result()
        assert first not in {identity.pid for identity in leaders(home)}
        assert kept.identity in leaders(home)
        assert process.identity.alive()
        for each in (kept, process):
            each.signal(signal.SIGKILL)
            await each.ended()


async def test_many_forks_at_once(home: Home) -> None:
    async with running(home) as (_, launcher):
        processes = await asyncio.gather(*(launcher.start(spec(home, str(code))) for code in range(40)))
        assert await asyncio.gather(*(process.ended() for process in processes)) == list(range(40))
