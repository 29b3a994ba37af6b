"""How to reach S3 or a store that speaks like it: KServe's variables, read from the environment. (pure)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

from runtimes.storage.storage_spec import with_storage_spec
from runtimes.storage.uri import BadSetting

_LEGACY_ENDPOINT = "https://s3.amazonaws.com"
"""AWS's endpoint of old. It knows the buckets of other regions by their host names only, as KServe accounts for."""
_GLOBAL_REGION = "us-east-1"
_CA_FILE = "cabundle.crt"
"""The key of a CA bundle's config map; KServe's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """Where the store is and how to speak to it. The defaults are KServe's unless noted."""

    endpoint_url: str | None = None
    """None: AWS. `AWS_ENDPOINT_URL`, or `S3_ENDPOINT` (host and port) with `S3_USE_HTTPS` (0: http)."""
    region: str | None = None
    """`AWS_DEFAULT_REGION` or `AWS_REGION`; None: what a profile says, else us-east-1."""
    access_key_id: str | None = None
    """`AWS_ACCESS_KEY_ID`. None: the SDK's other ways, among them a role by web identity (IRSA) and the machine's role."""
    secret_access_key: str | None = None
    """`AWS_SECRET_ACCESS_KEY`."""
    session_token: str | None = None
    """`AWS_SESSION_TOKEN`, for temporary keys."""
    anonymous: bool = False
    """Whether requests are not signed: `awsAnonymousCredential` is true."""
    verify: bool | str = True
    """False: certificates are not checked (`S3_VERIFY_SSL` is 0 or false). A path: the authorities in that file
    (`AWS_CA_BUNDLE`, or `CA_BUNDLE_VOLUME_MOUNT_POINT`/cabundle.crt where `CA_BUNDLE_CONFIGMAP_NAME` is set)."""
    virtual_host: bool = False
    """Whether the bucket stands in the host name (`S3_USER_VIRTUAL_BUCKET`, KServe's spelling)."""
    accelerate: bool = False
    """Whether AWS's transfer acceleration is used: `S3_USE_ACCELERATE`."""
    connect_timeout_s: float = 15
    """`S3_CONNECT_TIMEOUT`."""
    read_timeout_s: float = 30
    """`S3_READ_TIMEOUT`: for each read, not for a whole file."""
    attempts_max: int = 1
    """The SDK's own attempts for one request: `S3_MAX_ATTEMPTS`. KServe says 3; here every transfer is retried as a whole
    and from where it is, so that the SDK need not."""


_DEFAULTS = S3Settings()


def parse_s3_settings(env: Mapping[str, str]) -> S3Settings:
    """The settings in `env`, with its storage spec laid over it; BadSetting where one cannot be read."""
    env = with_storage_spec(env)
    endpoint_url, region = _endpoint_url(env), env.get("AWS_DEFAULT_REGION") or env.get("AWS_REGION") or None
    elsewhere = endpoint_url == _LEGACY_ENDPOINT and region not in (None, _GLOBAL_REGION)
    key, secret = env.get("AWS_ACCESS_KEY_ID") or None, env.get("AWS_SECRET_ACCESS_KEY") or None
    if bool(key) != bool(secret):
        there, missing = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")[:: 1 if key else -1]
        raise BadSetting(f"{there} is set and {missing} is not; keys come in pairs")
    return S3Settings(
        endpoint_url=endpoint_url,
        region=region,
        access_key_id=key,
        secret_access_key=secret,
        session_token=env.get("AWS_SESSION_TOKEN") or None,
        anonymous=_is_true(env, "awsAnonymousCredential"),
        verify=_verify(env),
        virtual_host=_is_true(env, "S3_USER_VIRTUAL_BUCKET") or elsewhere,
        accelerate=_is_true(env, "S3_USE_ACCELERATE"),
        connect_timeout_s=_seconds(env, "S3_CONNECT_TIMEOUT", _DEFAULTS.connect_timeout_s),
        read_timeout_s=_seconds(env, "S3_READ_TIMEOUT", _DEFAULTS.read_timeout_s),
        attempts_max=int(_seconds(env, "S3_MAX_ATTEMPTS", _DEFAULTS.attempts_max)),
    )


def _endpoint_url(env: Mapping[str, str]) -> str | None:
    url = env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or ""
    host = env.get("S3_ENDPOINT", "").strip()
    if not url and host:
        scheme = "http" if env.get("S3_USE_HTTPS", "").strip().lower() in ("0", "false") else "https"
        url = host if "://" in host else f"{scheme}://{host}"
    url = url.strip().rstrip("/")
    if url and not url.lower().startswith(("http://", "https://")):
        raise BadSetting(f"AWS_ENDPOINT_URL = {url}, must begin with http:// or https://")
    return url or None


def _verify(env: Mapping[str, str]) -> bool | str:
    if env.get("S3_VERIFY_SSL", "").strip().lower() in ("0", "false"):
        return False
    path = env.get("AWS_CA_BUNDLE", "").strip()
    if not path and env.get("CA_BUNDLE_CONFIGMAP_NAME"):
        path = str(PurePath(env.get("CA_BUNDLE_VOLUME_MOUNT_POINT") or "/etc/ssl/custom-certs") / _CA_FILE)
    return path or True


def _is_true(env: Mapping[str, str], name: str) -> bool:
    return env.get(name, "").strip().lower() in ("true", "1")


def _seconds(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 1 <= value <= 3600:
        raise BadSetting(f"{name} = {text}, must be a number in [1, 3600]")
    return value
