"""Who is asking: bearer tokens from pki/tokens.json. Every known user may do everything, for now."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from aiohttp import web

from onebox.apiserver.status import unauthorized

_USER = "ladle.user"
_BEARER = "bearer "


class Tokens:
    """The users by token. Tokens are compared by hash, so that comparing takes no longer for a better guess."""

    def __init__(self, path: Path) -> None:
        stored: dict[str, str] = json.loads(path.read_text())
        self._users = {_digest(token): user for token, user in stored.items()}

    def authenticate(self, request: web.BaseRequest) -> None:
        """Notes the user of a request; Refused (401) where nobody is known by its token."""
        header = request.headers.get("Authorization", "")
        user = self._users.get(_digest(header[len(_BEARER) :])) if header[: len(_BEARER)].lower() == _BEARER else None
        if user is None:
            raise unauthorized()
        request[_USER] = user


def user_of(request: web.BaseRequest) -> str:
    """The user that `authenticate` noted."""
    user: str = request[_USER]
    return user


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
