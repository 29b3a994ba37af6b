"""`s3://bucket/path`: AWS S3, and every store that speaks its protocol (MinIO, Ceph, R2).

botocore is used rather than s3fs, which stands on it: reads come from many threads as blocking streams of one range each,
under the condition that the object is still the one that was listed.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from ladle.errors import StorageUnavailable, Unsupported, UserError
from runtimes.storage.keys import Place, parse_place
from runtimes.storage.objects import Algorithm, Changed, Digest, RemoteFile
from runtimes.storage.s3_settings import S3Settings, parse_s3_settings
from runtimes.storage.uri import AccessDenied, BadSetting, BadUri, NoSuchSource, StorageUri

try:
    import botocore.exceptions
    import botocore.session
    from botocore import UNSIGNED
    from botocore.config import Config
except ModuleNotFoundError as error:
    raise Unsupported("s3:// needs botocore: pip install 'ladle[s3]'") from error

_CHUNK_BYTES: Final = 1024 * 1024
_CONNECTIONS_MAX: Final = 64
"""Connections kept open; the most that the initializer reads at once."""
_LOOKUPS: Final = 8
"""Objects asked for their checksums at once. A guess: a round trip each, and stores limit the rate of requests."""
_MD5: Final = re.compile(r"^[0-9a-f]{32}$")
_KEYS_HINT: Final = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (in a secret of the service account), "
    "or awsAnonymousCredential=true for a public bucket"
)
_BAD_KEYS: Final = frozenset(
    {
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "InvalidToken",
        "ExpiredToken",
        "TokenRefreshRequired",
        "InvalidClientTokenId",
    }
)
_FORBIDDEN: Final = frozenset({"AccessDenied", "AllAccessDisabled", "Forbidden", "403", "401", "AccountProblem"})
_MISSING: Final = frozenset({"NoSuchKey", "404", "NotFound"})
_CHANGED: Final = frozenset({"PreconditionFailed", "412", "InvalidRange", "416", "NoSuchVersion", *_MISSING})
_OTHER_REGION: Final = frozenset({"PermanentRedirect", "301", "AuthorizationHeaderMalformed", "TemporaryRedirect"})
_PASSING: Final = frozenset(
    {
        "SlowDown",
        "RequestTimeout",
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "BandwidthLimitExceeded",
    }
)


def open_source(uri: StorageUri, env: Mapping[str, str]) -> S3Source:
    """The objects at `uri`; BadUri and BadSetting for what can be seen without a request."""
    return S3Source(parse_place(uri), parse_s3_settings(env))


class S3Source:
    """Objects of one bucket; see runtimes.storage.objects.Source."""

    def __init__(self, place: Place, settings: S3Settings) -> None:
        self._place = place
        self._endpoint = settings.endpoint_url or "AWS S3"
        if isinstance(settings.verify, str) and not Path(settings.verify).is_file():
            raise BadSetting(
                f"there is no file with certificate authorities at {settings.verify}; check AWS_CA_BUNDLE or the config map"
            )
        self._client = _client(settings)

    def list(self) -> Sequence[RemoteFile]:
        """Every object below the path, and the one at the path itself."""
        with self._errors():
            found = self._found()
            with ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="s3-lookup") as pool:
                files = list(pool.map(self._described, found))
        if not files:
            raise NoSuchSource(f"no object at {self._place} of {self._endpoint}; check the path in the URI")
        return files

    def read(self, file: RemoteFile, offset: int, length: int | None) -> Iterator[bytes]:
        """The range in pieces of at most 1 MiB, under the condition that the object's ETag is the listed one."""
        condition = {"IfMatch": file.version} if file.version else {}
        end = "" if length is None else offset + length - 1
        wanted = {"Range": f"bytes={offset}-{end}"} if file.size_bytes and (offset or length is not None) else {}
        with self._errors(file):
            body = self._client.get_object(Bucket=self._place.bucket, Key=file.key, **condition, **wanted)["Body"]
            try:
                yield from body.iter_chunks(_CHUNK_BYTES)
            finally:
                body.close()

    def close(self) -> None:
        """Frees connections."""
        self._client.close()

    def _found(self) -> Sequence[Mapping[str, Any]]:
        """The objects as listed. Who may not list may still be allowed to read the one object that the URI names."""
        try:
            return list(self._listed())
        except botocore.exceptions.ClientError as error:
            if self._place.is_directory or _code(error) not in _FORBIDDEN:
                raise
            with contextlib.suppress(botocore.exceptions.ClientError):
                head = self._client.head_object(Bucket=self._place.bucket, Key=self._place.path)
                return [{"Key": self._place.path, "ETag": head["ETag"], "Size": head["ContentLength"]}]
            raise

    def _listed(self) -> Iterator[Mapping[str, Any]]:
        pages = self._client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self._place.bucket, Prefix=self._place.below):
            yield from (item for item in page.get("Contents", ()) if self._place.relative(item["Key"]) is not None)
        if not self._place.is_directory:
            # Sorted by key, hence first of all keys that begin like this.
            page = self._client.list_objects_v2(Bucket=self._place.bucket, Prefix=self._place.path, MaxKeys=1)
            yield from (item for item in page.get("Contents", ()) if item["Key"] == self._place.path)

    def _described(self, item: Mapping[str, Any]) -> RemoteFile:
        """An object as listed, with the checksum that only a request for itself reveals."""
        path = self._place.relative(item["Key"])
        assert path is not None, "only what is below the path is kept"
        head: Mapping[str, Any] = {}
        if _MD5.match(item["ETag"].strip('"')):
            head = self._client.head_object(Bucket=self._place.bucket, Key=item["Key"])
        return RemoteFile(
            path=path,
            size_bytes=item["Size"],
            version=item["ETag"],
            digest=_digest(item["ETag"].strip('"'), head),
            key=item["Key"],
        )

    @contextlib.contextmanager
    def _errors(self, file: RemoteFile | None = None) -> Iterator[None]:
        """Turns the SDK's errors into ours; about `file` where one is read."""
        try:
            yield
        except botocore.exceptions.ClientError as error:
            raise self._translated(error, file) from None
        except botocore.exceptions.SSLError as error:
            hint = "set AWS_CA_BUNDLE to its authority's file, or S3_VERIFY_SSL=0 to trust anybody"
            raise AccessDenied(f"the certificate of {self._endpoint} is not trusted: {hint} ({error})") from None
        except (
            botocore.exceptions.NoCredentialsError,
            botocore.exceptions.PartialCredentialsError,
            botocore.exceptions.CredentialRetrievalError,
            botocore.exceptions.TokenRetrievalError,
        ) as error:
            raise AccessDenied(f"no credentials for {self._endpoint}: {_KEYS_HINT} ({error})") from None
        except botocore.exceptions.ParamValidationError as error:
            raise BadUri(f"the store cannot be asked for this: {' '.join(str(error).split())}") from None
        except (botocore.exceptions.HTTPClientError, botocore.exceptions.ConnectionError) as error:
            raise self._unreachable(error) from None
        except botocore.exceptions.BotoCoreError as error:
            raise BadSetting(f"{error}; check the AWS_ and S3_ variables") from None

    def _unreachable(self, error: Exception) -> StorageUnavailable:
        hint = "is AWS_ENDPOINT_URL (S3_ENDPOINT) right, and the store up and reachable from here?"
        return StorageUnavailable(f"no answer from {self._endpoint}: {' '.join(str(error).split())}; {hint}")

    def _translated(
        self, error: botocore.exceptions.ClientError, file: RemoteFile | None
    ) -> UserError | StorageUnavailable | Changed:
        code = _code(error)
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        what = f"object {file.key}" if file else str(self._place)
        bucket = self._place.bucket
        if code in _PASSING or status >= 500 or status == 429:
            return StorageUnavailable(f"{self._endpoint} answered {status} {code}")
        if code in _BAD_KEYS:
            return AccessDenied(f"{self._endpoint} does not accept the keys ({code}): {_KEYS_HINT}")
        if code == "NoSuchBucket" or (code in _MISSING and file is None):
            hint = "check the URI, and AWS_ENDPOINT_URL where the bucket is not on AWS"
            return NoSuchSource(f"the bucket {bucket} does not exist on {self._endpoint}; {hint}")
        if file is not None and code in _CHANGED:
            return Changed(f"{what} is not what was listed any more ({code})")
        if code in _FORBIDDEN:
            needs = f"s3:ListBucket on {bucket} and s3:GetObject on what is below {self._place.path or '/'}"
            return AccessDenied(f"the credentials may not read {what} ({code}): they need {needs}, or {_KEYS_HINT}")
        if code in _OTHER_REGION:
            return BadSetting(f"the bucket {bucket} is in another region: set AWS_DEFAULT_REGION ({_message(error)})")
        return NoSuchSource(f"{self._endpoint} answered {status} {code} for {what}: {_message(error)}")


def _client(settings: S3Settings) -> Any:
    s3 = {"use_accelerate_endpoint": True} if settings.accelerate else {}
    config = Config(
        connect_timeout=settings.connect_timeout_s,
        read_timeout=settings.read_timeout_s,
        retries={"total_max_attempts": settings.attempts_max, "mode": "standard"},
        max_pool_connections=_CONNECTIONS_MAX,
        s3={**s3, **({"addressing_style": "virtual"} if settings.virtual_host else {})},
        **({"signature_version": UNSIGNED} if settings.anonymous else {}),
    )
    session = botocore.session.get_session()
    try:
        return session.create_client(
            "s3",
            # A store that is not AWS has no regions, yet a signature names one.
            region_name=settings.region or session.get_config_variable("region") or "us-east-1",
            endpoint_url=settings.endpoint_url,
            verify=settings.verify,
            aws_access_key_id=settings.access_key_id,
            aws_secret_access_key=settings.secret_access_key,
            aws_session_token=settings.session_token if settings.access_key_id else None,
            config=config,
        )
    except (ValueError, botocore.exceptions.BotoCoreError) as error:
        raise BadSetting(f"{error}; check the AWS_ and S3_ variables") from None


def _digest(etag: str, head: Mapping[str, Any]) -> Digest | None:
    """The object's MD5, where its ETag is one: not for several parts, and not where a key of its own encrypts it."""
    encryption = str(head.get("ServerSideEncryption", ""))
    if not head or encryption.startswith("aws:") or head.get("SSECustomerAlgorithm"):
        return None
    return Digest(Algorithm.MD5, etag)


def _code(error: botocore.exceptions.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _message(error: botocore.exceptions.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Message", "")) or str(error)
