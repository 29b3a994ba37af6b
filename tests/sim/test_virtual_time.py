from __future__ import annotations

import asyncio

import pytest

from tests.sim.virtual_time import Stalled, VirtualClock, run_virtually

CLOCK = VirtualClock()


def test_hours_pass_at_once_and_what_is_due_has_passed() -> None:
    async def main() -> None:
        for delay_s in (0.1, 1 / 3, 1e-9, 3600.0):
            due_s = CLOCK.monotonic_s() + delay_s
            await asyncio.sleep(delay_s)
            assert due_s <= CLOCK.monotonic_s() <= due_s + 1e-5

    run_virtually(main())


def test_the_rest_of_a_time_is_exact_so_that_nobody_waits_for_a_last_bit() -> None:
    async def main() -> None:
        await asyncio.sleep(0.1)
        since_s = CLOCK.monotonic_s()
        await asyncio.sleep(0.7)
        await asyncio.sleep(1.0 - (CLOCK.monotonic_s() - since_s))
        assert 1.0 - (CLOCK.monotonic_s() - since_s) <= 0

    run_virtually(main())


def test_timers_for_the_same_time_come_in_the_order_in_which_they_were_set() -> None:
    async def main() -> list[int]:
        came: list[int] = []
        loop = asyncio.get_running_loop()
        for number in range(20):
            loop.call_at(5.0, came.append, number)
        await asyncio.sleep(6.0)
        return came

    assert run_virtually(main()) == list(range(20))


def test_a_busy_wait_is_an_error_and_so_is_waiting_for_nobody() -> None:
    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    async def wait() -> None:
        await asyncio.Event().wait()

    for main in (spin, wait):
        with pytest.raises(Stalled):
            run_virtually(main())
