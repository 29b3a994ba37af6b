"""Where credentials go in requests to web servers, and where not."""

from __future__ import annotations

import base64
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit


class CarefulRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but takes the headers meant for one host (they hold credentials) to no other, nor in the clear."""

    def __init__(self, private: Mapping[str, str]) -> None:
        self._private = private

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if after.scheme not in ("http", "https"):
            raise urllib.error.HTTPError(newurl, code, f"a redirect to {after.scheme}:// is not followed", headers, fp)
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        upgraded = before.scheme == "http" and after.scheme == "https" and before.hostname == after.hostname
        same = (before.scheme, before.netloc) == (after.scheme, after.netloc)
        if following is not None and not same and not upgraded:
            for name in self._private:
                following.remove_header(name.capitalize())
        return following


def basic_authorization(url: str) -> tuple[str, dict[str, str]]:
    """The URL without `user:password@`, and the header that says the same."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url, {}
    user, _, host = parts.netloc.rpartition("@")
    header = base64.b64encode(unquote(user).encode()).decode()
    return urlunsplit(parts._replace(netloc=host)), {"Authorization": f"Basic {header}"}
