"""`gs://bucket/path`: Google Cloud Storage.

Google's own client is used rather than gcsfs, which stands on it: reads come from many threads, each of one range and of the
generation that was listed. Credentials are Google's: `GOOGLE_APPLICATION_CREDENTIALS` or the machine's; without any, the bucket
is read anonymously, as KServe does. `STORAGE_EMULATOR_HOST` leads elsewhere.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ladle.errors import StorageUnavailable, TransientError, Unsupported, UserError
from runtimes.storage.keys import Place, parse_place
from runtimes.storage.objects import Algorithm, Changed, Digest, RemoteFile
from runtimes.storage.uri import AccessDenied, BadSetting, NoSuchSource, StorageUri

try:
    import google.auth
    import google.auth.exceptions
    import requests
    from google.api_core import exceptions
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage
except ModuleNotFoundError as error:
    raise Unsupported("gs:// needs google-cloud-storage: pip install 'ladle[gcs]'") from error

_REQUEST_BYTES: Final = 8 * 1024 * 1024
"""What one request brings: the client takes whole answers, and this much for each thread is in memory. A guess."""
_TIMEOUT_S: Final = (15.0, 60.0)
"""Of connecting and of each read. KServe leaves Google's 60 s."""
_SCOPE: Final = "https://www.googleapis.com/auth/devstorage.read_only"
_PASSING: Final = (
    exceptions.ServerError,
    exceptions.TooManyRequests,
    exceptions.RetryError,
    google.auth.exceptions.TransportError,
    requests.exceptions.RequestException,
)
_HINT: Final = (
    "set GOOGLE_APPLICATION_CREDENTIALS to a key's file (KServe: a secret of the service account with the key "
    "gcloud-application-credentials.json)"
)


def open_source(uri: StorageUri, env: Mapping[str, str]) -> GoogleSource:
    """The objects at `uri`; BadUri and BadSetting for what can be seen without a request."""
    return GoogleSource(parse_place(uri), env)


class GoogleSource:
    """Objects of one bucket; see runtimes.storage.objects.Source."""

    def __init__(self, place: Place, env: Mapping[str, str]) -> None:
        self._place = place
        self._env = env
        self._opened: Any = None

    def list(self) -> Sequence[RemoteFile]:
        """Every object below the path, and the one at the path itself."""
        with self._errors():
            found = list(self._listed())
        if not found:
            raise NoSuchSource(f"no object at {self._place}; check the path in the URI")
        return found

    def read(self, file: RemoteFile, offset: int, length: int | None) -> Iterator[bytes]:
        """The range of the listed generation in pieces of at most 8 MiB."""
        end = (file.size_bytes or 0) if length is None else offset + length
        blob = self._bucket().blob(file.key, generation=int(file.version or 0))
        for start in range(offset, end, _REQUEST_BYTES):
            with self._errors(file):
                # `end` is inclusive. The parts of a file cannot be checked, and the core checks the whole.
                yield blob.download_as_bytes(
                    start=start,
                    end=min(start + _REQUEST_BYTES, end) - 1,
                    raw_download=True,
                    timeout=_TIMEOUT_S,
                    checksum=None,
                    retry=None,
                )

    def close(self) -> None:
        """Frees connections."""
        if self._opened is not None:
            self._opened.client.close()

    def _listed(self) -> Iterator[RemoteFile]:
        bucket = self._bucket()
        blobs = list(bucket.list_blobs(prefix=self._place.below or None, timeout=_TIMEOUT_S, retry=None))
        if not self._place.is_directory:
            exact = bucket.get_blob(self._place.path, timeout=_TIMEOUT_S, retry=None)
            blobs += [exact] if exact is not None else []
        for blob in blobs:
            path = self._place.relative(blob.name)
            if path is not None:
                yield RemoteFile(
                    path=path,
                    size_bytes=blob.size,
                    version=str(blob.generation),
                    digest=_digest(blob.md5_hash),
                    key=blob.name,
                )

    def _bucket(self) -> Any:
        if self._opened is None:
            with self._errors():
                self._opened = _client(self._env).bucket(self._place.bucket)
        return self._opened

    @contextlib.contextmanager
    def _errors(self, file: RemoteFile | None = None) -> Iterator[None]:
        """Turns Google's errors into ours; about `file` where one is read."""
        try:
            yield
        except _PASSING as error:
            message = " ".join(str(error).split())
            where = self._env.get("STORAGE_EMULATOR_HOST") or "Google Cloud Storage"
            raise StorageUnavailable(f"no answer from {where}: {message}; is it reachable from here?") from None
        except google.auth.exceptions.GoogleAuthError as error:
            raise AccessDenied(f"the credentials cannot be used: {error}; {_HINT}") from None
        except exceptions.GoogleAPICallError as error:
            raise self._translated(error, file) from None

    def _translated(self, error: exceptions.GoogleAPICallError, file: RemoteFile | None) -> UserError | TransientError:
        what = f"object {file.key}" if file else str(self._place)
        if isinstance(error, exceptions.Unauthorized | exceptions.Forbidden):
            needs = "storage.objects.list and storage.objects.get (the role Storage Object Viewer)"
            return AccessDenied(f"these credentials may not read {what} ({error.code}): they need {needs}; {_HINT}")
        if file is not None and isinstance(
            error, exceptions.NotFound | exceptions.PreconditionFailed | exceptions.RequestRangeNotSatisfiable
        ):
            return Changed(f"{what} is not what was listed any more ({error.code})")
        if isinstance(error, exceptions.NotFound):
            return NoSuchSource(f"the bucket {self._place.bucket} does not exist; check the URI")
        return NoSuchSource(f"Google Cloud Storage answered {error.code} for {what}: {error.message}")


def _client(env: Mapping[str, str]) -> Any:
    """Google's client. Where nobody left credentials, an anonymous one."""
    anonymous: Any = AnonymousCredentials
    options = {"api_endpoint": env["STORAGE_EMULATOR_HOST"]} if env.get("STORAGE_EMULATOR_HOST") else None
    file = env.get("GOOGLE_APPLICATION_CREDENTIALS")
    project = env.get("GOOGLE_CLOUD_PROJECT") or "none"  # Reading takes none, and the client asks for one.
    if options is not None:
        return storage.Client(credentials=anonymous(), project=project, client_options=options)
    try:
        credentials, _ = google.auth.default(scopes=[_SCOPE])
    except (google.auth.exceptions.DefaultCredentialsError, google.auth.exceptions.MalformedError) as error:
        if file:
            raise BadSetting(f"GOOGLE_APPLICATION_CREDENTIALS = {file} cannot be used: {error}") from None
        credentials = anonymous()
    return storage.Client(credentials=credentials, project=project)


def _digest(md5: str | None) -> Digest | None:
    """The MD5 in hexadecimal; None for an object that was composed of others, which has none."""
    return Digest(Algorithm.MD5, base64.b64decode(md5).hex()) if md5 else None
