"""Which kills are taken for the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.base.clock import SystemClock
from onebox.node.memory_kills import RECENT_S, MemoryKills


class HandClock(SystemClock):
    """Moves when the test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic_s(self) -> float:
        return self.now_s


class Kernel:
    """Its statistics, as a file that the test writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.killed(0)

    def killed(self, count: int) -> None:
        self.path.write_text(f"nr_free_pages 7\noom_kill {count}\nswap_ra 3\n")


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path / "vmstat")


def test_a_kill_is_explained_for_some_seconds_for_all_that_died_of_it(kernel: Kernel) -> None:
    clock = HandClock()
    kills = MemoryKills(clock, kernel.path)
    assert not kills.recent()
    kernel.killed(2)
    assert [kills.recent(), kills.recent()] == [True, True]
    clock.now_s += RECENT_S + 1
    assert not kills.recent()


def test_what_happened_before_explains_nothing(kernel: Kernel) -> None:
    kernel.killed(5)
    assert not MemoryKills(HandClock(), kernel.path).recent()


def test_a_kernel_that_does_not_count_kills_nothing(kernel: Kernel) -> None:
    kernel.path.write_text("nr_free_pages 7\n")
    assert not MemoryKills(HandClock(), kernel.path).recent()


def test_this_kernel_can_be_asked() -> None:
    assert MemoryKills(SystemClock()).recent() in (True, False)
