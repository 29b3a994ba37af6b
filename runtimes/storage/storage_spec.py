"""Settings that come as one JSON object: KServe's `storage` field hands over a key of the secret `storage-config`. (pure)

`STORAGE_CONFIG` is that key's value, `STORAGE_OVERRIDE_CONFIG` the field's `parameters`, which win. For a store of type s3
each of their entries stands for a variable, and wins over it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from runtimes.storage.uri import BadSetting

CONFIG: Final = "STORAGE_CONFIG"
OVERRIDES: Final = "STORAGE_OVERRIDE_CONFIG"
_S3_VARIABLES: Final = {
    "endpoint_url": "AWS_ENDPOINT_URL",
    "access_key_id": "AWS_ACCESS_KEY_ID",
    "secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "region": "AWS_DEFAULT_REGION",
    "ca_bundle": "AWS_CA_BUNDLE",
    "verify_ssl": "S3_VERIFY_SSL",
    "anonymous": "awsAnonymousCredential",
}
"""KServe's names for the entries of a store of type s3, and for the variables that say the same."""


def with_storage_spec(env: Mapping[str, str]) -> Mapping[str, str]:
    """`env` with what the two JSON objects in it say; BadSetting, without any value, where they cannot be read."""
    given = {**_parsed(env, CONFIG), **_parsed(env, OVERRIDES)}
    if given.get("type") != "s3":
        return env
    return {**env, **{variable: _text(given[key]) for key, variable in _S3_VARIABLES.items() if key in given}}


def _parsed(env: Mapping[str, str], name: str) -> Mapping[str, object]:
    text = env.get(name, "").strip()
    try:
        given = json.loads(text or "{}")
    except ValueError as error:
        # Only the position: the text holds credentials.
        where = f"line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else "its text"
        raise BadSetting(f"{name} is no JSON: an error at {where}; check the key in the storage secret") from None
    if not isinstance(given, dict):
        raise BadSetting(f"{name} must be a JSON object, such as the example in the secret storage-config")
    return given


def _text(value: object) -> str:
    # KServe wants text for everything; a plain true or 1 means the same.
    return json.dumps(value) if isinstance(value, bool | int) else str(value)
