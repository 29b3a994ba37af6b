"""`hf://owner/model[:revision]`: models of the Hugging Face hub, all files of one commit.

The revision (a branch, tag or commit; main where none is named) is resolved to its commit first, and every file is read from
that commit, so that nothing is put together from two. `HF_TOKEN` is for private and gated models, `HF_ENDPOINT` for a mirror.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ladle.errors import StorageUnavailable, Unsupported
from runtimes.storage.objects import Algorithm, Digest, RemoteFile
from runtimes.storage.uri import AccessDenied, BadUri, NoSuchSource, StorageUri

try:
    import huggingface_hub.errors
    import huggingface_hub.utils
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
except ModuleNotFoundError as error:
    raise Unsupported("hf:// needs huggingface_hub: pip install 'ladle[hf]'") from error

# Its public names are imported there in a way that type checkers do not follow.
_hub_errors: Any = huggingface_hub.errors
_hub_utils: Any = huggingface_hub.utils
_CHUNK_BYTES: Final = 1024 * 1024
_TIMEOUT_S: Final = 30.0
"""Of connecting and of each read. The hub's own client waits 10 s, which is short for a mirror that fetches first. A guess."""


@dataclass(frozen=True, slots=True)
class HubPlace:
    """A model on a hub; "" as `revision` is its main branch."""

    model: str
    revision: str


def open_source(uri: StorageUri, env: Mapping[str, str]) -> HubSource:
    """The files of the model at `uri`; BadUri where it names none."""
    return HubSource(parse_hub_place(uri), env)


def parse_hub_place(uri: StorageUri) -> HubPlace:
    """Model and revision; BadUri where there are not exactly an owner and a name."""
    model, _, revision = uri.location.partition("://")[2].partition(":")
    owner, _, name = model.partition("/")
    if not owner or not name or "/" in name:
        raise BadUri("expected hf://OWNER/MODEL or hf://OWNER/MODEL:REVISION, without a path inside of the model")
    return HubPlace(model, revision)


class HubSource:
    """Files of one commit; see runtimes.storage.objects.Source."""

    def __init__(self, place: HubPlace, env: Mapping[str, str]) -> None:
        self._place = place
        self._endpoint = env.get("HF_ENDPOINT", "").rstrip("/") or None
        self._token = env.get("HF_TOKEN") or env.get("HUGGING_FACE_HUB_TOKEN") or None
        self._api = HfApi(endpoint=self._endpoint, token=self._token)
        self._commit = ""

    def list(self) -> Sequence[RemoteFile]:
        """Every file of the revision's commit."""
        with self._errors():
            found = self._api.model_info(
                self._place.model, revision=self._place.revision or None, files_metadata=True, timeout=_TIMEOUT_S
            )
        if not found.siblings:
            raise NoSuchSource(f"the model {self._place.model} has no files")
        self._commit = found.sha or ""
        return [_remote(item) for item in found.siblings]

    def read(self, file: RemoteFile, offset: int, length: int | None) -> Iterator[bytes]:
        """The range in pieces of at most 1 MiB."""
        assert self._commit, "a file comes from list"
        url = hf_hub_url(self._place.model, file.path, revision=self._commit, endpoint=self._endpoint)
        end = "" if length is None else offset + length - 1
        wanted = {"Range": f"bytes={offset}-{end}"} if file.size_bytes and (offset or length is not None) else {}
        # As it is stored: a coding would make ranges and sizes those of other bytes.
        headers = {**_hub_utils.build_hf_headers(token=self._token), "Accept-Encoding": "identity", **wanted}
        with (
            self._errors(),
            _hub_utils.get_session().stream(
                "GET", url, headers=headers, timeout=_TIMEOUT_S, follow_redirects=True
            ) as answer,
        ):
            if answer.is_error:
                answer.read()
            _hub_utils.hf_raise_for_status(answer)
            if wanted and answer.status_code != 206:
                raise StorageUnavailable(f"the hub did not send the part of {file.path} that it was asked for")
            yield from answer.iter_bytes(_CHUNK_BYTES)

    def close(self) -> None:
        """Nothing: connections belong to the library's one session."""

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turns the hub's errors into ours."""
        model, revision = self._place.model, self._place.revision or "main"
        try:
            yield
        except GatedRepoError:
            hint = "accept its terms on the hub, and set HF_TOKEN to a token of that account"
            raise AccessDenied(f"{model} is gated: {hint} (KServe: a secret of the service account)") from None
        except RepositoryNotFoundError:
            hint = "check the URI; for a private model set HF_TOKEN (in a secret of the service account)"
            raise NoSuchSource(f"there is no model {model} on {self._api.endpoint}, or it is private: {hint}") from None
        except RevisionNotFoundError:
            raise NoSuchSource(f"the model {model} has no branch, tag or commit {revision}") from None
        except HFValidationError as error:
            raise BadUri(str(error)) from None
        except HfHubHTTPError as error:
            raise self._refused(error) from None
        except (_hub_errors.HTTPError, OSError) as error:
            message = " ".join(str(error).split()) or type(error).__name__
            hint = "is HF_ENDPOINT right, and the hub reachable from here?"
            raise StorageUnavailable(f"no answer from {self._api.endpoint}: {message}; {hint}") from None

    def _refused(self, error: HfHubHTTPError) -> Exception:
        status = error.response.status_code
        said = error.server_message or f"{status}"
        if status in (401, 403):
            return AccessDenied(f"the hub refuses {self._place.model} ({status}): check HF_TOKEN ({said})")
        if status == 429 or status >= 500:
            return StorageUnavailable(f"the hub answered {status}: {said}")
        return NoSuchSource(f"the hub answered {status} for {self._place.model}: {said}")


def _remote(item: Any) -> RemoteFile:
    digest = Digest(Algorithm.GIT_SHA1, item.blob_id) if item.blob_id else None
    if item.lfs is not None:
        digest = Digest(Algorithm.SHA256, item.lfs.sha256)
    return RemoteFile(
        path=item.rfilename,
        size_bytes=item.size,
        version=digest.hexadecimal if digest is not None else None,
        digest=digest,
        key=item.rfilename,
    )
