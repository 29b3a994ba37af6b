"""How a model comes into its pod: the storage initializer as an init container, or a claim that is mounted. (pure)

KServe's pod webhook adds the initializer to every pod behind the scenes; here it stands in the Knative Service, where a user
can see it and where no webhook can be missing. What results in the pod is the same (spec/kserve.md 2.9).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from controller.api.core import (
    Container,
    EmptyDirSource,
    EnvVar,
    PersistentVolumeClaimSource,
    PodSpec,
    ResourceRequirements,
    Volume,
    VolumeMount,
)
from controller.api.inferenceservice import (
    MODEL_CONTAINER,
    MODEL_DIRECTORY,
    TRANSFORMER_CONTAINER,
    Confidential,
)
from controller.api.servingruntime import ClusterStorageContainer
from controller.api.validation_containers import STORAGE_URI_ENV
from controller.base.errors import UserError
from controller.inferenceservice.config import Settings, StorageInitializerSettings
from controller.inferenceservice.credentials import Access
from controller.inferenceservice.sources import INVALID_STORAGE, Source
from controller.inferenceservice.strategic_merge import merge_containers

INITIALIZER: Final = "storage-initializer"
READONLY_ANNOTATION: Final = "storage.kserve.io/readonly"
_VOLUME: Final = "kserve-provision-location"
_CLAIM_VOLUME: Final = "kserve-pvc-source"
_SCHEMES: Final = ("gs", "s3", "file", "http", "https", "hdfs", "webhdfs", "hf")
"""What the storage initializer fetches without being told by a ClusterStorageContainer."""
_IMAGE_SCHEMES: Final = ("oci", "oci+native", "oci+fetch")
_AZURE: Final = re.compile(r"https://(.+?)\.(blob|file)\.core\.windows\.net/(.+)")
_DOWNLOAD_ENV: Final = {
    "HF_HUB_ENABLE_HF_TRANSFER": "1",
    "HF_XET_HIGH_PERFORMANCE": "1",
    "HF_XET_NUM_CONCURRENT_RANGE_GETS": "8",
}
"""Faster downloads from the Hugging Face hub; KServe sets them for every model."""


def add_storage(
    pod: PodSpec,
    access: Access,
    *,
    annotations: Mapping[str, str],
    settings: Settings,
    storage_containers: Sequence[ClusterStorageContainer] = (),
) -> PodSpec:
    """`pod` with its models; UserError InvalidStorage for a source that nothing here can fetch."""
    sources = access.sources
    if not sources:
        return pod
    read_only = annotations.get(READONLY_ANNOTATION, "true").lower() != "false"
    fetched = [source for source in sources if not source.is_claim]
    claims = [source for source in sources if source.is_claim]
    if fetched:
        chosen = _storage_container(fetched, storage_containers)
        pod = _with_initializer(pod, replace(access, sources=tuple(fetched)), chosen, settings, read_only=read_only)
    for position, claim in enumerate(claims):
        pod = _with_claim(pod, claim, position, read_only=read_only)
    return _with_local_uri(pod, sources[0].mount_path)


def confidential_variables(confidential: Confidential | None) -> tuple[EnvVar, ...]:
    """What tells an initializer that the model is encrypted, and where its key is; in KServe's names."""
    if confidential is None:
        return ()
    enabled = EnvVar(name="CONFIDENTIAL_ENABLED", value="true")
    resource = confidential.resourceId
    return (enabled, EnvVar(name="CONFIDENTIAL_RESOURCE_ID", value=resource)) if resource else (enabled,)


def _storage_container(
    sources: Iterable[Source], storage_containers: Sequence[ClusterStorageContainer]
) -> ClusterStorageContainer | None:
    """The storage container that fetches these sources; None for the shipped initializer."""
    chosen: ClusterStorageContainer | None = None
    for source in sources:
        found = next((item for item in storage_containers if _fetches(item, source.uri)), None)
        if found is None:
            _check_scheme(source.uri)
        chosen = chosen or found
    return chosen


def _fetches(item: ClusterStorageContainer, uri: str) -> bool:
    if item.disabled or item.spec.workloadType != "initContainer":
        return False
    return any(
        uri.startswith(known.prefix) if known.prefix else bool(known.regex and re.match(known.regex, uri))
        for known in item.spec.supportedUriFormats
    )


def _check_scheme(uri: str) -> None:
    scheme, separator, _ = uri.partition("://")
    if not separator or scheme in _SCHEMES or _AZURE.match(uri):  # Without a scheme it is a path on the pod's machine.
        return
    known = ", ".join(f"{name}://" for name in (*_SCHEMES, "pvc"))
    if scheme in _IMAGE_SCHEMES:
        raise UserError(
            INVALID_STORAGE, f'storageUri "{uri}": models in images ({scheme}://) cannot be mounted yet; use {known}'
        )
    what = "must start with one of"
    hint = "or install a ClusterStorageContainer that supports it"
    raise UserError(INVALID_STORAGE, f'storageUri "{uri}" {what} {known}, be a path, {hint}')


def _with_initializer(
    pod: PodSpec,
    access: Access,
    storage_container: ClusterStorageContainer | None,
    settings: Settings,
    *,
    read_only: bool,
) -> PodSpec:
    if any(item.name == INITIALIZER for item in pod.initContainers):
        return pod  # The manifest brings its own.
    if not settings.init_containers_allowed:
        flag = "kubernetes.podspec-init-containers in ConfigMap config-features of namespace knative-serving"
        raise UserError("InitContainersDisabled", f"the model is fetched by an init container: set {flag} to enabled")
    sources = access.sources
    directory = sources[0].mount_path if len(sources) == 1 else posixpath.commonpath([s.mount_path for s in sources])
    # KServe names the volume of several sources after where it is mounted.
    name = _VOLUME if directory == MODEL_DIRECTORY else directory.strip("/").replace("/", "-")
    initializer = _initializer(access, settings.storage_initializer).replace(
        volumeMounts=[VolumeMount(name=name, mountPath=directory), *access.mounts]
    )
    if storage_container is not None:
        upper = storage_container.spec.container
        merged = merge_containers(initializer, upper.replace(args=[]))
        initializer = merged.replace(name=INITIALIZER, args=initializer.args)
    mount = VolumeMount(name=name, mountPath=directory, readOnly=True) if read_only else None
    pod = _with_mount(pod, mount or VolumeMount(name=name, mountPath=directory))
    volume = Volume(name=name, emptyDir=EmptyDirSource())
    known = {item.name for item in pod.volumes}
    volumes = [volume, *(item for item in access.volumes if item.name not in known)]
    return pod.replace(initContainers=[*pod.initContainers, initializer], volumes=[*pod.volumes, *volumes])


def _initializer(access: Access, shipped: StorageInitializerSettings) -> Container:
    return Container(
        name=INITIALIZER,
        image=shipped.image,
        args=[word for source in access.sources for word in (source.uri, source.mount_path)],
        env=[*access.env, *(EnvVar(name=name, value=value) for name, value in _DOWNLOAD_ENV.items())],
        resources=ResourceRequirements(
            requests={"cpu": shipped.cpu_request, "memory": shipped.memory_request},
            limits={"cpu": shipped.cpu_limit, "memory": shipped.memory_limit},
        ),
        # What the initializer says last is what the service's status shows.
        terminationMessagePolicy="FallbackToLogsOnError",
    )


def _with_claim(pod: PodSpec, source: Source, position: int, *, read_only: bool) -> PodSpec:
    claim, path = source.claim
    name = _CLAIM_VOLUME if position == 0 else f"{_CLAIM_VOLUME}-{position}"
    mount = {"name": name, "mountPath": source.mount_path}
    if path:
        mount["subPath"] = path
    pod = _with_mount(pod, VolumeMount.parse({**mount, **({"readOnly": True} if read_only else {})}))
    volume = Volume(name=name, persistentVolumeClaim=PersistentVolumeClaimSource(claimName=claim))
    return pod.replace(volumes=[*pod.volumes, volume])


def _with_mount(pod: PodSpec, mount: VolumeMount) -> PodSpec:
    """The pod whose serving containers see the models, unless they mount something of their own there."""
    return pod.replace(
        containers=[
            item.replace(volumeMounts=[*item.volumeMounts, mount])
            if item.name in (MODEL_CONTAINER, TRANSFORMER_CONTAINER)
            and all(known.mountPath != mount.mountPath for known in item.volumeMounts)
            else item
            for item in pod.containers
        ]
    )


def _with_local_uri(pod: PodSpec, directory: str) -> PodSpec:
    """Custom containers learn where the model lies from the variable that said where it comes from."""
    return pod.replace(
        containers=[
            item.replace(env=[v.replace(value=directory) if v.name == STORAGE_URI_ENV else v for v in item.env])
            if any(v.name == STORAGE_URI_ENV for v in item.env)
            else item
            for item in pod.containers
        ]
    )
