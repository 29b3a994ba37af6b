"""With which credentials a storage initializer fetches: environment, mounts and volumes (spec/kserve.md 4.4). (pure)

A component's `storage` field names a key of the storage secret. Without that field its service account counts: an AWS role by
annotation, then each of its secrets in order, or the one secret that an annotation of the service names. Values of secrets
are only ever referred to. KServe decides the same in its pod webhook, and mostly tells its log when something is missing;
here that is an error with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Final

import orjson

from controller.api.core import (
    ConfigMapSource,
    EnvVar,
    EnvVarSource,
    KeySelector,
    SecretSource,
    Volume,
    VolumeMount,
)
from controller.api.inferenceservice import LoggerStorage, ModelStorage
from controller.base.errors import UserError
from controller.inferenceservice.config import CredentialSettings, S3Defaults
from controller.inferenceservice.secrets import AccountView, Identities, SecretView, StoreEntry
from controller.inferenceservice.sources import INVALID_STORAGE, PLACEHOLDER_SCHEME, Source

DEFAULT_ACCOUNT: Final = "default"
"""The service account of a pod that names none; Kubernetes' rule."""
LOGGER_ACCOUNT: Final = "logger-sa"
"""The service account of a logger that stores and names none; KServe's rule."""
_ROLE_ANNOTATION: Final = "eks.amazonaws.com/role-arn"
_GROUP: Final = "serving.kserve.io"
_STORE_TYPES: Final = ("s3", "hdfs", "webhdfs")
"""Types of stores that a storage secret may describe; KServe's."""
_BUCKET_TYPES: Final = ("s3",)
_GCS_VOLUME, _GCS_DIRECTORY = "user-gcp-sa", "/var/secrets/"
_HDFS_VOLUME, _HDFS_DIRECTORY = "hdfs-secrets", "/var/secrets/kserve-hdfscreds"
_AZURE_KEYS: Final = {
    "AZURE_SUBSCRIPTION_ID": "AZ_SUBSCRIPTION_ID",
    "AZURE_TENANT_ID": "AZ_TENANT_ID",
    "AZURE_CLIENT_ID": "AZ_CLIENT_ID",
    "AZURE_CLIENT_SECRET": "AZ_CLIENT_SECRET",
    "AZURE_STORAGE_ACCESS_KEY": "",
    "AZURE_ACCESS_TOKEN": "",
    "AZURE_ACCESS_EXPIRES_ON_SECONDS": "",
    "AZURE_ACCOUNT_NAME": "",
    "AZURE_SERVICE_URL": "",
}
"""Variables, and the older key of a secret that stands for the same."""
_CA_CONFIG_MAP_ENV: Final = "AWS_CA_BUNDLE_CONFIGMAP"
_CA_FILE_ENV: Final = "AWS_CA_BUNDLE"
_CA_VOLUME: Final = "cabundle-cert"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How the initializer gets at a component's sources."""

    sources: tuple[Source, ...]
    """With the URIs that only a secret could complete."""
    env: tuple[EnvVar, ...] = ()
    mounts: tuple[VolumeMount, ...] = ()
    volumes: tuple[Volume, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Who asks: the service's and component's annotations, the component's service account, and the namespace's secrets."""

    annotations: Mapping[str, str]
    account: str
    """"" is the default one."""
    identities: Identities
    settings: CredentialSettings
    ca_bundle: str = ""
    """The config map with certificate authorities that all initializers of the namespace mount; "" for none."""


def plan_access(sources: Sequence[Source], wanted: Wanted) -> Access:
    """What the initializer of these sources gets; UserError where a secret, an account or a part of one is missing."""
    access = Access(sources=tuple(sources))
    fetched = [source for source in sources if not source.is_claim]
    if not fetched:
        return access
    store = fetched[0].store
    access = _by_storage_secret(access, store, wanted) if store is not None else _by_account(access, wanted)
    return _with_ca_bundle(access, wanted)


def logger_account(storage: LoggerStorage) -> str:
    """The service account whose secrets hold the credentials for the place that a logger stores at."""
    return storage.serviceAccountName or LOGGER_ACCOUNT


def plan_logger_access(storage: LoggerStorage, wanted: Wanted) -> Access:
    """What the agent gets to write its log; UserError where an account that the manifest names, or a secret, is missing."""
    access, account = Access(sources=()), logger_account(storage)
    if not storage.serviceAccountName and account not in wanted.identities.accounts:
        return access  # KServe's name for it; nobody has to have one.
    return _by_account(access, replace(wanted, account=account))


def storage_secret_name(settings: CredentialSettings, annotations: Mapping[str, str]) -> str:
    """The secret that describes stores."""
    return annotations.get(settings.secret_name_annotation) or settings.storage_secret_name


def _by_storage_secret(access: Access, store: ModelStorage, wanted: Wanted) -> Access:
    parameters = store.parameters or {}
    name = storage_secret_name(wanted.settings, wanted.annotations)
    key = store.key or "_".join(filter(None, ("default", parameters.get("type"))))
    entry = _store_entry(name, key, wanted, required=bool(store.key))
    type_ = parameters.get("type") or (entry.type if entry else "")
    bucket = parameters.get("bucket") or (entry.bucket if entry else "")
    env = []
    if entry is not None and entry.ca_bundle_config_map:
        env.append(EnvVar(name=_CA_CONFIG_MAP_ENV, value=entry.ca_bundle_config_map))
    if entry is not None or store.key:
        env.append(_from_secret("STORAGE_CONFIG", name, key))
    if parameters:
        text = orjson.dumps(parameters, option=orjson.OPT_SORT_KEYS).decode()
        env.append(EnvVar(name="STORAGE_OVERRIDE_CONFIG", value=text))
    sources = tuple(_completed(source, type_, bucket, where=f"secret {name}, key {key}") for source in access.sources)
    return replace(access, sources=sources, env=tuple(env))


def _store_entry(name: str, key: str, wanted: Wanted, *, required: bool) -> StoreEntry | None:
    """What the secret says of the store; None where it need not, and does not, or where nobody looked."""
    identities = wanted.identities
    found = identities.secret(name, f"storage.key = {key}") if required else identities.secrets.get(name)
    if found is None:
        return None
    if key in found.stores:
        return found.stores[key]
    where = f"secret {name} in namespace {identities.namespace}"
    if key in found.keys:
        raise UserError("InvalidSecret", f"key {key} of {where} must hold a JSON object such as {{'type': 's3', …}}")
    if required:
        has = ", ".join(sorted(found.keys)) or "none"
        raise UserError("SecretKeyNotFound", f"storage.key = {key}: {where} has no such key; its keys: {has}")
    return None


def _completed(source: Source, type_: str, bucket: str, *, where: str) -> Source:
    """The source with scheme and bucket, if its URI lacks them."""
    if not source.uri.startswith(PLACEHOLDER_SCHEME):
        return source
    path = source.uri.removeprefix(PLACEHOLDER_SCHEME)
    if type_ not in _STORE_TYPES:
        known = ", ".join(_STORE_TYPES)
        has = f"type = {type_}" if type_ else "no type is known"
        message = (
            f"storage.path = {path}: {has}; storage.parameters.type or the JSON in {where} must say one of {known}"
        )
        raise UserError(INVALID_STORAGE, message)
    if type_ not in _BUCKET_TYPES:
        return replace(source, uri=f"{type_}://{path}")
    if not bucket:
        message = f"storage.path = {path}: no bucket is known; set storage.parameters.bucket, or bucket in {where}"
        raise UserError(INVALID_STORAGE, message)
    return replace(source, uri=f"{type_}://{bucket}/{path}")


def _by_account(access: Access, wanted: Wanted) -> Access:
    name = wanted.account or DEFAULT_ACCOUNT
    account = wanted.identities.accounts.get(name)
    if account is None:
        if wanted.account and wanted.identities.lacks_account(name):
            message = f"there is no service account {name} in namespace {wanted.identities.namespace}; create it"
            raise UserError("ServiceAccountNotFound", message)
        return access
    if _ROLE_ANNOTATION in account.annotations:
        access = _with_env(access, _s3_env(account.annotations, {}, wanted.settings.s3))
    named = wanted.annotations.get(wanted.settings.secret_name_annotation)
    by = f"annotation {wanted.settings.secret_name_annotation}" if named else f"service account {name}"
    for secret_name in (named,) if named else account.secrets:
        secret = wanted.identities.secret(secret_name, by)
        if secret is not None:
            access = _with_secret(access, secret, wanted.settings)
    return access


def _with_secret(access: Access, secret: SecretView, settings: CredentialSettings) -> Access:
    """What the secret is for is told by its keys; the first kind that fits counts, and other secrets mean nothing here."""
    kinds: Sequence[tuple[tuple[str, ...], Callable[[], Access]]] = (
        ((settings.s3_secret_access_key,), lambda: _with_env(access, _s3_secret_env(secret, settings))),
        ((settings.gcs_file,), lambda: _with_gcs(access, secret, settings.gcs_file)),
        (
            ("AZ_CLIENT_ID", "AZURE_CLIENT_ID", "AZURE_ACCESS_TOKEN"),
            lambda: _with_env(access, _azure_env(secret, _AZURE_KEYS)),
        ),
        (
            ("AZURE_STORAGE_ACCESS_KEY",),
            lambda: _with_env(access, _azure_env(secret, {"AZURE_STORAGE_ACCESS_KEY": ""})),
        ),
        (("https-host",), lambda: _with_env(access, _https_env(secret))),
        (("HDFS_NAMENODE",), lambda: _with_files(access, secret, _HDFS_VOLUME, _HDFS_DIRECTORY)),
        (("HF_TOKEN",), lambda: _with_env(access, [_from_secret("HF_TOKEN", secret.name)])),
        (
            ("MODELSCOPE_API_TOKEN",),
            lambda: _with_env(access, [_from_secret("MODELSCOPE_API_TOKEN", secret.name)]),
        ),
    )
    return next((make() for keys, make in kinds if not secret.keys.isdisjoint(keys)), access)


def _s3_secret_env(secret: SecretView, settings: CredentialSettings) -> list[EnvVar]:
    if settings.s3_access_key_id not in secret.keys:
        message = (
            f"secret {secret.name} has {settings.s3_secret_access_key} and lacks {settings.s3_access_key_id}; add it"
        )
        raise UserError("SecretKeyNotFound", message)
    return [
        _from_secret("AWS_ACCESS_KEY_ID", secret.name, settings.s3_access_key_id),
        _from_secret("AWS_SECRET_ACCESS_KEY", secret.name, settings.s3_secret_access_key),
        *_s3_env(secret.annotations, secret.settings, settings.s3),
    ]


def _s3_env(annotations: Mapping[str, str], data: Mapping[str, str], defaults: S3Defaults) -> list[EnvVar]:
    """How to reach the store: annotations first, then the secret's data, then the cluster's settings."""

    def value(annotation: str, key: str, default: str) -> str:
        return annotations.get(f"{_GROUP}/{annotation}", data.get(key, default))

    found: dict[str, str] = {}
    endpoint = value("s3-endpoint", "S3_ENDPOINT", defaults.endpoint).strip()
    if endpoint:
        use_https = value("s3-usehttps", "S3_USE_HTTPS", defaults.use_https)
        found |= _endpoint_env(endpoint, use_https)
    found |= {
        "S3_VERIFY_SSL": value("s3-verifyssl", "S3_VERIFY_SSL", defaults.verify_ssl),
        "awsAnonymousCredential": value("s3-useanoncredential", "awsAnonymousCredential", defaults.anonymous),
        "AWS_DEFAULT_REGION": value("s3-region", "AWS_DEFAULT_REGION", defaults.region),
        "S3_USER_VIRTUAL_BUCKET": value("s3-usevirtualbucket", "S3_USER_VIRTUAL_BUCKET", defaults.virtual_bucket),
        "S3_USE_ACCELERATE": value("s3-useaccelerate", "S3_USE_ACCELERATE", defaults.accelerate),
        _CA_FILE_ENV: value("s3-cabundle", _CA_FILE_ENV, defaults.ca_bundle),
        _CA_CONFIG_MAP_ENV: value("s3-cabundle-configmap", _CA_CONFIG_MAP_ENV, defaults.ca_bundle_config_map),
    }
    return [EnvVar(name=name, value=text) for name, text in found.items() if text]


def _endpoint_env(endpoint: str, use_https: str) -> Mapping[str, str]:
    scheme, separator, host = endpoint.partition("://")
    if separator and scheme.lower() in ("http", "https"):  # A URL says which; the setting beside it does not count.
        secure = "1" if scheme.lower() == "https" else "0"
        return {"S3_USE_HTTPS": secure, "S3_ENDPOINT": host, "AWS_ENDPOINT_URL": endpoint}
    url = f"{'http' if use_https == '0' else 'https'}://{endpoint}"
    return {"S3_USE_HTTPS": use_https, "S3_ENDPOINT": endpoint, "AWS_ENDPOINT_URL": url}


def _azure_env(secret: SecretView, keys: Mapping[str, str]) -> list[EnvVar]:
    chosen = ((name, older if older in secret.keys else name) for name, older in keys.items())
    return [_from_secret(name, secret.name, key) for name, key in chosen if key in secret.keys]


def _https_env(secret: SecretView) -> list[EnvVar]:
    if "headers" not in secret.keys:
        message = f"secret {secret.name} has https-host and lacks headers, a JSON object of headers; add it"
        raise UserError("SecretKeyNotFound", message)
    # KServe copies the headers into the pod's spec, where everybody who may see pods can read them.
    return [_from_secret(f"{secret.settings['https-host']}-headers", secret.name, "headers")]


def _with_gcs(access: Access, secret: SecretView, file: str) -> Access:
    path = EnvVar(name="GOOGLE_APPLICATION_CREDENTIALS", value=f"{_GCS_DIRECTORY}{file}")
    return _with_env(_with_files(access, secret, _GCS_VOLUME, _GCS_DIRECTORY), [path])


def _with_files(access: Access, secret: SecretView, volume: str, directory: str) -> Access:
    if any(known.name == volume for known in access.volumes):  # The first secret of a kind counts, as in KServe.
        return access
    mount = VolumeMount(name=volume, mountPath=directory, readOnly=True)
    source = Volume(name=volume, secret=SecretSource(secretName=secret.name))
    return replace(access, mounts=(*access.mounts, mount), volumes=(*access.volumes, source))


def _with_env(access: Access, env: Iterable[EnvVar]) -> Access:
    """With these variables; of two with one name the later counts, as it would in a container."""
    merged = {item.name: item for item in (*access.env, *env)}
    return replace(access, env=tuple(merged.values()))


def _with_ca_bundle(access: Access, wanted: Wanted) -> Access:
    given = {item.name: item.value or "" for item in access.env}
    config_map = given.get(_CA_CONFIG_MAP_ENV) or wanted.ca_bundle
    if not config_map:
        return access
    directory = wanted.settings.ca_bundle_directory
    if given.get(_CA_FILE_ENV):
        directory = str(PurePosixPath(given[_CA_FILE_ENV]).parent)
    access = _with_env(
        access,
        [
            EnvVar(name="CA_BUNDLE_CONFIGMAP_NAME", value=config_map),
            EnvVar(name="CA_BUNDLE_VOLUME_MOUNT_POINT", value=directory),
        ],
    )
    mount = VolumeMount(name=_CA_VOLUME, mountPath=directory, readOnly=True)
    volume = Volume(name=_CA_VOLUME, configMap=ConfigMapSource(name=config_map))
    return replace(access, mounts=(*access.mounts, mount), volumes=(*access.volumes, volume))


def _from_secret(variable: str, secret: str, key: str = "") -> EnvVar:
    return EnvVar(name=variable, valueFrom=EnvVarSource(secretKeyRef=KeySelector(name=secret, key=key or variable)))


def names_to_read(
    account: AccountView | None, annotations: Mapping[str, str], settings: CredentialSettings
) -> tuple[str, ...]:
    """The secrets that `plan_access` will ask for, of a component without a storage field."""
    if account is None:
        return ()
    named = annotations.get(settings.secret_name_annotation)
    return (named,) if named else account.secrets
