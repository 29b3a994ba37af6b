"""Gateways as Routes know them: whether requests follow a VirtualService as it is stored."""

from __future__ import annotations

from collections.abc import Callable

from controller.base.json import JsonView


class StoredGateway:
    """A gateway of which nobody reports anything: what is stored counts as in force."""

    def is_live(self, virtual_service: JsonView) -> bool:
        return bool(virtual_service)

    def refusal_of(self, uid: str, generation: int) -> str:  # noqa: ARG002  # It refuses nothing.
        return ""

    def subscribe(self, on_live: Callable[[str, str], None]) -> None:
        """Nothing ever changes without an event of its own."""
