"""`https://ACCOUNT.blob.core.windows.net/CONTAINER/PATH`: Azure's blob storage.

Azure's own client is used rather than adlfs, which stands on it: reads come from many threads, each of one range and on
condition of the listed ETag. Credentials, first of these that is there: a signature (SAS) in the URI, a service principal or
workload identity (`AZURE_CLIENT_ID`, KServe's older `AZ_CLIENT_ID`), `AZURE_ACCESS_TOKEN`, `AZURE_STORAGE_ACCESS_KEY`; else
the container is read anonymously. `AZURE_SERVICE_URL` leads elsewhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from ladle.errors import StorageUnavailable, TransientError, Unsupported, UserError
from runtimes.storage.keys import Place
from runtimes.storage.objects import Algorithm, Changed, Digest, RemoteFile
from runtimes.storage.uri import AccessDenied, BadUri, NoSuchSource, StorageUri

try:
    from azure.core import MatchConditions
    from azure.core.credentials import AccessToken
    from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError
    from azure.identity import ClientSecretCredential, DefaultAzureCredential
    from azure.storage.blob import ContainerClient
except ModuleNotFoundError as error:
    raise Unsupported("Azure's blob storage needs two libraries: pip install 'ladle[azure]'") from error

_CHUNK_BYTES: Final = 4 * 1024 * 1024
"""What one request brings; Azure's own number, which KServe keeps."""
_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S = 15, 30
_OLDER: Final = {
    name: name.replace("AZURE_", "AZ_") for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET")
}
"""KServe's older names of variables."""
_FOR_EVER_S: Final = 2**33
"""When a token ends that does not say: in the year 2242."""
_HINT: Final = (
    "set AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET, or AZURE_STORAGE_ACCESS_KEY (in a secret of the service "
    "account), or put a signature (SAS) into the URI"
)


@dataclass(frozen=True, slots=True)
class _Token:
    """A token that somebody else got."""

    text: str
    expires_on_s: int

    def get_token(self, *_: str, **__: object) -> AccessToken:
        """The token; Azure's protocol for credentials."""
        return AccessToken(self.text, self.expires_on_s)


def open_source(uri: StorageUri, env: Mapping[str, str]) -> AzureSource:
    """The blobs at `uri`; BadUri where it names no container."""
    parts = urlsplit(uri.location)
    host = parts.hostname or ""
    if ".file." in host:
        raise Unsupported("Azure's file shares are not read by this initializer; mount the share, or use blob storage")
    container, _, path = unquote(parts.path).strip("/").partition("/")
    if not container:
        raise BadUri(f"no container in the URI, expected https://{host}/CONTAINER/PATH")
    place = Place(container, path.strip("/"), is_directory=not path or parts.path.endswith("/"))
    account_url = env.get("AZURE_SERVICE_URL", "").rstrip("/") or f"https://{parts.netloc}"
    credential = parts.query or _credential(env, account=host.partition(".")[0])
    client = ContainerClient(
        account_url,
        container,
        credential=credential,
        retry_total=0,  # The core's.
        connection_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
        max_single_get_size=_CHUNK_BYTES,
        max_chunk_get_size=_CHUNK_BYTES,
    )
    return AzureSource(place, client, account_url=account_url, is_anonymous=credential is None)


class AzureSource:
    """Blobs of one container; see runtimes.storage.objects.Source."""

    def __init__(self, place: Place, client: ContainerClient, *, account_url: str, is_anonymous: bool) -> None:
        self._place = place
        self._client = client
        self._account_url = account_url
        self._is_anonymous = is_anonymous

    def list(self) -> Sequence[RemoteFile]:
        """Every blob below the path, and the one at the path itself."""
        with self._errors():
            found = [_remote(self._place, blob) for blob in self._blobs() if not _is_directory(blob)]
        files = [file for file in found if file is not None]
        if not files:
            raise NoSuchSource(f"no blob at {self._place.path or '/'} in container {self._place.bucket}; check the URI")
        return files

    def read(self, file: RemoteFile, offset: int, length: int | None) -> Iterator[bytes]:
        """The range in pieces of at most 4 MiB, on condition of the listed ETag."""
        with self._errors(file):
            download = self._client.download_blob(
                file.key,
                offset=offset if file.size_bytes else None,
                length=length if file.size_bytes else None,
                etag=file.version,
                match_condition=MatchConditions.IfNotModified,
                max_concurrency=1,
            )
            yield from download.chunks()

    def close(self) -> None:
        """Frees connections."""
        self._client.close()

    def _blobs(self) -> Iterator[Any]:
        yield from self._client.list_blobs(name_starts_with=self._place.below or None, include=["metadata"])
        if not self._place.is_directory:
            with contextlib.suppress(ResourceNotFoundError):
                yield self._client.get_blob_client(self._place.path).get_blob_properties()

    @contextlib.contextmanager
    def _errors(self, file: RemoteFile | None = None) -> Iterator[None]:
        """Turns Azure's errors into ours; about `file` where one is read."""
        try:
            yield
        except HttpResponseError as error:
            raise self._translated(error, file) from None
        except AzureError as error:  # No answer, or half of one.
            message = " ".join(str(error).split())
            raise StorageUnavailable(
                f"no answer from {self._account_url}: {message}; is the account's name right, and Azure reachable from here?"
            ) from None

    def _translated(self, error: HttpResponseError, file: RemoteFile | None) -> UserError | TransientError:
        status, code = error.status_code or 0, str(getattr(error, "error_code", "") or error.reason or "")
        what = f"blob {file.key}" if file else f"container {self._place.bucket}"
        if status == 429 or status >= 500 or not status:
            return StorageUnavailable(f"{self._account_url} answered {status} {code}")
        if status in (401, 403) or code == "PublicAccessNotPermitted":
            needs = "the role Storage Blob Data Reader"
            return AccessDenied(f"these credentials may not read {what} ({status} {code}): they need {needs}; {_HINT}")
        if file is not None and status in (404, 412, 416):
            return Changed(f"{what} is not what was listed any more ({code})")
        if status == 404:
            private = f", or it is private: {_HINT}" if self._is_anonymous else "; check the URI"
            return NoSuchSource(f"{what} does not exist at {self._account_url}{private}")
        return NoSuchSource(f"{self._account_url} answered {status} {code} for {what}: {error.message}")


def _credential(env: Mapping[str, str], *, account: str) -> Any:
    """What signs the requests; None for anonymous ones."""
    tenant, client, secret = (env.get(name) or env.get(older) for name, older in _OLDER.items())
    if client and secret and tenant:
        return ClientSecretCredential(tenant, client, secret)
    if client:
        return DefaultAzureCredential()  # Workload identity, or a managed identity of the machine.
    if env.get("AZURE_ACCESS_TOKEN"):
        expires = env.get("AZURE_ACCESS_EXPIRES_ON_SECONDS", "").strip()
        return _Token(env["AZURE_ACCESS_TOKEN"], int(expires) if expires.isdigit() else _FOR_EVER_S)
    if env.get("AZURE_STORAGE_ACCESS_KEY"):
        return {
            "account_name": env.get("AZURE_ACCOUNT_NAME") or account,
            "account_key": env["AZURE_STORAGE_ACCESS_KEY"],
        }
    return None


def _is_directory(blob: Any) -> bool:
    # Accounts with directories (ADLS) list them as empty blobs with this mark.
    return str((blob.metadata or {}).get("hdi_isfolder", "")).lower() == "true"


def _remote(place: Place, blob: Any) -> RemoteFile | None:
    path = place.relative(blob.name)
    if path is None:
        return None
    md5 = blob.content_settings.content_md5
    return RemoteFile(
        path=path,
        size_bytes=blob.size,
        version=blob.etag,
        digest=Digest(Algorithm.MD5, bytes(md5).hex()) if md5 else None,
        key=blob.name,
    )
