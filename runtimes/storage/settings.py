"""What can be set about fetching, from the environment of the initializer. Names are KServe's where it has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from runtimes.storage.uri import BadSetting

MIB = 1024 * 1024
_CONCURRENCY_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one run of the initializer fetches."""

    file_concurrency: int = 4
    """Files at once, 1 to 64. `S3_MAX_FILE_CONCURRENCY`, for every scheme (KServe's default), or
    `LADLE_STORAGE_FILE_CONCURRENCY`."""
    part_concurrency: int = 4
    """Parts of one large file at once, 1 to 64. `LADLE_STORAGE_PART_CONCURRENCY`; KServe's number for Azure."""
    part_bytes: int = 64 * MIB
    """Size of a part; smaller files come in one. `LADLE_STORAGE_PART_BYTES`. A guess: a second of a fast line."""
    allow: tuple[str, ...] = ()
    """Patterns of files to take; empty: all. `STORAGE_ALLOW_PATTERNS`, a JSON array or a list with commas."""
    ignore: tuple[str, ...] = ()
    """Patterns of files to leave out of what is allowed. `STORAGE_IGNORE_PATTERNS`."""
    cache: Path | None = None
    """Directory of the content cache; None: there is none. `LADLE_STORAGE_CACHE`."""
    cache_bytes_max: int = 50 * 1024 * MIB
    """What the cache may hold; the least recently used goes first. `LADLE_STORAGE_CACHE_MAX_BYTES`. A guess."""

    def without_patterns(self) -> Settings:
        """The same settings for a source whose files are not filtered."""
        return replace(self, allow=(), ignore=())


_DEFAULTS = Settings()


def parse_settings(env: Mapping[str, str]) -> Settings:
    """The settings in `env`; BadSetting with the variable, its value and the range where one cannot be."""
    files = "LADLE_STORAGE_FILE_CONCURRENCY" if env.get("LADLE_STORAGE_FILE_CONCURRENCY") else "S3_MAX_FILE_CONCURRENCY"
    cache = env.get("LADLE_STORAGE_CACHE", "").strip()
    return Settings(
        file_concurrency=_number(env, files, _DEFAULTS.file_concurrency, _CONCURRENCY_MAX),
        part_concurrency=_number(env, "LADLE_STORAGE_PART_CONCURRENCY", _DEFAULTS.part_concurrency, _CONCURRENCY_MAX),
        part_bytes=_number(env, "LADLE_STORAGE_PART_BYTES", _DEFAULTS.part_bytes),
        allow=_patterns(env, "STORAGE_ALLOW_PATTERNS"),
        ignore=_patterns(env, "STORAGE_IGNORE_PATTERNS"),
        cache=Path(cache).expanduser().absolute() if cache else None,
        cache_bytes_max=_number(env, "LADLE_STORAGE_CACHE_MAX_BYTES", _DEFAULTS.cache_bytes_max),
    )


def _number(env: Mapping[str, str], name: str, default: int, most: int = 2**63 - 1) -> int:
    text = env.get(name, "").strip()
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
        raise BadSetting(f"{name} = {text}, must be a whole number in [1, {most}]")
    return int(text)


def _patterns(env: Mapping[str, str], name: str) -> tuple[str, ...]:
    text = env.get(name, "").strip()
    if not text.startswith("["):
        return tuple(pattern.strip() for pattern in text.split(",") if pattern.strip())
    try:
        given = json.loads(text)
    except ValueError:
        given = None
    if not isinstance(given, list) or not all(isinstance(pattern, str) for pattern in given):
        raise BadSetting(f'{name} = {text}, must be a JSON array of patterns or a list like "*.json,*.onnx"')
    return tuple(given)
