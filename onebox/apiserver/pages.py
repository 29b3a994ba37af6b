"""Lists in pages: the rest of a list is kept for a while, so that all its pages show one moment."""

from __future__ import annotations

import base64
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass

import orjson

from onebox.apiserver.status import bad_request, expired
from onebox.apiserver.storage.records import Record

_SNAPSHOTS_MAX = 16
"""Lists that somebody may be in the middle of; a guess. The oldest gives way, and its reader starts again."""
_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without the "
    "continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing "
    "with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the "
    "time the first chunk was returned and now may show up in the list."
)


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of a list; `token` is empty on the last page."""

    records: list[Record]
    revision: int
    token: str = ""
    remaining: int = 0


class Pages:
    """Cuts lists into pages."""

    def __init__(self) -> None:
        self._snapshots: OrderedDict[tuple[str, int], list[Record]] = OrderedDict()

    def first(self, scope: str, records: list[Record], revision: int, limit: int) -> Page:
        """The first page; `scope` tells lists with different selectors apart."""
        if not limit or len(records) <= limit:
            return Page(records, revision)
        self._snapshots[scope, revision] = records
        while len(self._snapshots) > _SNAPSHOTS_MAX:
            self._snapshots.popitem(last=False)
        return _cut(records, revision, limit)

    def next(self, scope: str, token: str, current: list[Record], current_revision: int, limit: int) -> Page:
        """The page that a token leads to; `current` is what the list would be now. Refused (410) where it is forgotten."""
        revision, start = _parse_token(token)
        if revision < 0:
            records, revision = current, current_revision
            self._snapshots[scope, revision] = records
        else:
            known = self._snapshots.get((scope, revision))
            if known is None:
                refusal = expired(_EXPIRED)
                refusal.continue_token = _token(-1, start)
                raise refusal
            records = known
        position = bisect_right(records, start, key=lambda record: (record.key.namespace, record.key.name))
        page = records[position:]
        if limit and len(page) > limit:
            return _cut(page, revision, limit)
        self._snapshots.pop((scope, revision), None)
        return Page(page, revision)


def _cut(records: list[Record], revision: int, limit: int) -> Page:
    page = records[:limit]
    last = page[-1].key
    return Page(page, revision, _token(revision, (last.namespace, last.name)), len(records) - limit)


def _token(revision: int, start: tuple[str, str]) -> str:
    """A continue token in Kubernetes' own form; a negative revision means: at whatever the list is now."""
    content = {"v": "meta.k8s.io/v1", "rv": revision, "start": "/".join(start) + "\0"}
    return base64.urlsafe_b64encode(orjson.dumps(content)).decode().rstrip("=")


def _parse_token(token: str) -> tuple[int, tuple[str, str]]:
    decoded = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)) if _is_base64(token) else token.encode()
    try:
        content = orjson.loads(decoded)
        namespace, _, name = content["start"].rstrip("\0").partition("/")
        return int(content["rv"]), (namespace, name)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        shown = decoded[:1].decode(errors="replace") or "?"
        why = f"invalid character '{shown}' looking for beginning of value"
        raise bad_request(f"invalid continue token: continue key is not valid: {why}") from None


def _is_base64(token: str) -> bool:
    return all(char.isalnum() or char in "-_" for char in token) and len(token) % 4 != 1
