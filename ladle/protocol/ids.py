"""Identifiers of requests that came without one."""

from __future__ import annotations

import itertools
import os
import uuid

_COUNTER_BITS = 48
"""The last group of a UUID."""


class IdSource:
    """UUIDs (version 4 in form) that differ in their last group; a random one each time costs ten times as much."""

    def __init__(self) -> None:
        self._restart()
        # Children of a template must not hand out their siblings' identifiers.
        os.register_at_fork(after_in_child=self._restart)

    def _restart(self) -> None:
        self._prefix = str(uuid.uuid4())[:24]
        self._counter = itertools.count(uuid.uuid4().int >> (128 - _COUNTER_BITS + 8))

    def next(self) -> str:
        return f"{self._prefix}{next(self._counter):012x}"


_source = IdSource()
new_id = _source.next
