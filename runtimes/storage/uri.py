"""What a storage URI says: scheme, place, and the digest that pins its content."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ladle.errors import BadModel

_SCHEME = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]*)://")
_SHA256 = re.compile(r"^[0-9a-f]{64}$")
_PIN = "sha256="


class BadUri(BadModel):
    """A storage URI that cannot be read."""

    reason = "BadUri"


class BadSetting(BadModel):
    """A variable that sets how the initializer works cannot be read."""

    reason = "BadSetting"


class NoSuchSource(BadModel):
    """There is nothing at a URI."""

    reason = "NoSuchSource"


class AccessDenied(BadModel):
    """The store wants credentials, or other ones. The message says which variable or secret to set."""

    reason = "AccessDenied"


class WrongContent(BadModel):
    """What is at a URI is not what it should be: another digest, no archive, an archive that must not be unpacked."""

    reason = "WrongContent"


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageUri:
    """`location` is the URI without its fragment. `scheme` is "" for a plain path."""

    location: str
    scheme: str
    sha256: str = ""
    """Hex digest of the file at the location, if it is pinned: `#sha256=...`."""


def parse_uri(text: str) -> StorageUri:
    """The parts of a URI; BadUri where its fragment is no pin."""
    location, _, fragment = text.partition("#")
    match = _SCHEME.match(location)
    scheme = match[1].lower() if match else ""
    if not fragment:
        return StorageUri(location=location, scheme=scheme)
    digest = fragment.removeprefix(_PIN).lower()
    if not fragment.startswith(_PIN) or not _SHA256.match(digest):
        raise BadUri(f"fragment #{fragment} is no pin, expected #sha256= and 64 hexadecimal digits")
    return StorageUri(location=location, scheme=scheme, sha256=digest)


def printable(text: str) -> str:
    """A URI without what may be secret in it: user, password, and the values of its query (presigned URLs sign there).

    >>> printable("https://me:secret@host/m.zip?X-Signature=abc#sha256=00")
    'https://host/m.zip?...#sha256=00'
    """
    match = _SCHEME.match(text)
    if not match or match[1].lower() == "file":
        return text
    location, hash_sign, fragment = text[match.end() :].partition("#")
    location, question, _ = location.partition("?")
    host, slash, path = location.partition("/")
    return f"{match[0]}{host.rpartition('@')[2]}{slash}{path}{'?...' if question else ''}{hash_sign}{fragment}"
