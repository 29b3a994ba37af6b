"""autoscale: sleeps `sleep` ms, looks for the greatest prime up to `prime`, holds `bloat` MiB meanwhile."""

from __future__ import annotations

from tests.e2e.servers.exchange import Exchange, pause, serve


def greatest_prime(limit: int) -> int:
    """The greatest prime up to `limit`, 0 where there is none; by the sieve, since work is what it is for."""
    is_prime = bytearray([1]) * (limit + 1)
    greatest = 0
    for number in range(2, limit + 1):
        if is_prime[number]:
            greatest = number
            is_prime[number * number :: number] = bytes(len(range(number * number, limit + 1, number)))
    return greatest


class Autoscale(Exchange):
    def respond(self) -> None:
        held = bytearray(int(self.number("bloat")) << 20)
        pause(self.number("sleep") / 1000)
        self.answer(200, f"prime {greatest_prime(int(self.number('prime')))}, held {len(held)} bytes")


if __name__ == "__main__":
    serve(Autoscale)
