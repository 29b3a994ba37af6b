"""Reads the JSON texts in the keys of KServe's config map inferenceservice-config, and what admission needs of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from controller.api.defaulting import DEPLOYMENT_MODES, KNATIVE_MODE, SHIPPED, Defaults, normal_mode
from controller.base.errors import UserError
from controller.base.json import JsonObject

CONFIG_NAME: Final = "inferenceservice-config"
INVALID_CONFIG: Final = "InvalidConfig"


def parse_defaults(data: Mapping[str, str]) -> Defaults:
    """What admission goes by, from the config map's data; UserError InvalidConfig where a key cannot be read."""
    shipped = SHIPPED
    mode = normal_mode(str(section_of(data, "deploy").get("defaultDeploymentMode") or KNATIVE_MODE))
    if mode not in DEPLOYMENT_MODES:
        raise invalid_config("deploy", f"defaultDeploymentMode = {mode}, must be one of {', '.join(DEPLOYMENT_MODES)}")
    resource = section_of(section_of(data, "inferenceService"), "resource")
    art = section_of(section_of(data, "explainers"), "art")
    automount = section_of(data, "security").get("autoMountServiceAccountToken", shipped.automount_token)
    return Defaults(
        deployment_mode=mode,
        cpu_request=str(resource.get("cpuRequest") or shipped.cpu_request),
        cpu_limit=str(resource.get("cpuLimit") or shipped.cpu_limit),
        memory_request=str(resource.get("memoryRequest") or shipped.memory_request),
        memory_limit=str(resource.get("memoryLimit") or shipped.memory_limit),
        art_image_version=str(art.get("defaultImageVersion") or shipped.art_image_version),
        automount_token=bool(automount),
        gpu_types=strings_of(section_of(data, "multiNode"), "customGPUResourceTypeList"),
    )


def section_of(data: Mapping[str, Any], key: str) -> JsonObject:
    """The JSON object that stands as text (in a config map) or as such (inside of one) under `key`; {} where none does."""
    value = data.get(key)
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise invalid_config(key, f"is no JSON: {error}") from None
    if not value:
        return {}
    if not isinstance(value, dict):
        raise invalid_config(key, "must be a JSON object")
    return value


def strings_of(section: JsonObject, key: str) -> tuple[str, ...]:
    """The list of strings under `key`; () where there is none."""
    value = section.get(key) or ()
    if not isinstance(value, list | tuple):
        raise invalid_config(key, "must be a list of strings")
    return tuple(map(str, value))


def invalid_config(key: str, why: str) -> UserError:
    """The error about a key that cannot be read."""
    return UserError(INVALID_CONFIG, f"ConfigMap {CONFIG_NAME}, key {key}: {why}")
