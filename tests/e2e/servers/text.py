"""helloworld, and with another TEXT pizzaplanet: says one sentence."""

from __future__ import annotations

import os

from tests.e2e.servers.exchange import Exchange, serve

HELLO = "Hello World! How about some tasty noodles?"
SPACEPORT = "What a spaceport!"
PEPPERONI = "Re-energize yourself with a slice of pepperoni!"


class Text(Exchange):
    def respond(self) -> None:
        self.answer(200, os.environ.get("TEXT", HELLO))


if __name__ == "__main__":
    serve(Text)
