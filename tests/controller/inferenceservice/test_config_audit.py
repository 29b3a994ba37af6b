"""No setting of inferenceservice-config is silently idle: each changes what is made, or the controller says why not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
import yaml

from controller.api.core import ConfigMap
from controller.base.errors import UserError
from controller.inferenceservice.config import parse_settings
from controller.inferenceservice.config_audit import HONOURED, WITHOUT_EFFECT, idle_settings
from controller.inferenceservice.offline import render
from controller.inferenceservice.offline_admission import validate
from tests.controller.inferenceservice.builders import ROOT, SHARED, knative_service, manifest, runtime, virtual_service

PROBES: Mapping[str, Any] = {
    "explainers.art.image": "example/art",
    "explainers.art.defaultImageVersion": "v9",
    "storageInitializer.image": "example/init:9",
    "storageInitializer.memoryRequest": "111Mi",
    "storageInitializer.memoryLimit": "9Gi",
    "storageInitializer.cpuRequest": "111m",
    "storageInitializer.cpuLimit": "9",
    "storageInitializer.caBundleConfigMapName": "authorities",
    "storageInitializer.caBundleVolumeMountPath": "/elsewhere",
    "credentials.storageSpecSecretName": "stores",
    "credentials.storageSecretNameAnnotation": "example.com/secret",
    "credentials.gcs.gcsCredentialFileName": "other.json",
    "credentials.s3.s3AccessKeyIDName": "ID",
    "credentials.s3.s3SecretAccessKeyName": "KEY",
    "credentials.s3.s3Endpoint": "minio:9000",
    "credentials.s3.s3UseHttps": "0",
    "credentials.s3.s3Region": "eu",
    "credentials.s3.s3VerifySSL": "0",
    "credentials.s3.s3UseVirtualBucket": "true",
    "credentials.s3.s3UseAccelerate": "true",
    "credentials.s3.s3UseAnonymousCredential": "true",
    "credentials.s3.s3CABundleConfigMap": "s3-authorities",
    "credentials.s3.s3CABundle": "/ca/bundle.crt",
    "ingress.ingressGateway": "a/outside",
    "ingress.knativeLocalGatewayService": "knative-local.example",
    "ingress.localGateway": "a/inside",
    "ingress.localGatewayService": "local.example",
    "ingress.ingressDomain": "models.org",
    "ingress.additionalIngressDomains": ["more.org"],
    "ingress.urlScheme": "https",
    "ingress.disableIstioVirtualHost": True,
    "ingress.pathTemplate": "/m/{{ .Name }}",
    "ingress.awaitReconciledVirtualService": True,
    "logger.defaultUrl": "http://logs",
    "logger.caBundle": "log-authorities",
    "logger.caCertFile": "ca.crt",
    "logger.tlsSkipVerify": True,
    "logger.marshallerUrl": "http://marshal",
    "logger.batchSize": 7,
    "logger.batchInterval": "3s",
    "agent.image": "example/agent:9",
    "agent.memoryRequest": "111Mi",
    "agent.memoryLimit": "9Gi",
    "agent.cpuRequest": "111m",
    "agent.cpuLimit": "9",
    "deploy.defaultDeploymentMode": "Standard",
    "metricsAggregator.enablePrometheusScraping": "true",
    "security.autoMountServiceAccountToken": False,
    "inferenceService.resource.memoryRequest": "111Mi",
    "inferenceService.resource.memoryLimit": "9Gi",
    "inferenceService.resource.cpuRequest": "111m",
    "inferenceService.resource.cpuLimit": "9",
    "inferenceService.serviceAnnotationDisallowedList": ["example.com/note"],
    "inferenceService.serviceLabelDisallowedList": ["team"],
    "multiNode.customGPUResourceTypeList": ["acme.com/npu"],
}
"""A value of each setting that KServe does not ship."""
SHIPPED = {
    "credentials.s3.s3AccessKeyIDName": "AWS_ACCESS_KEY_ID",
    "credentials.s3.s3SecretAccessKeyName": "AWS_SECRET_ACCESS_KEY",
    "credentials.gcs.gcsCredentialFileName": "gcloud-application-credentials.json",
}
"""Settings for which KServe's code has other values than those it ships, once their key is there at all."""
NEEDS: Mapping[str, Mapping[str, Any]] = {
    "storageInitializer.caBundleVolumeMountPath": {"storageInitializer.caBundleConfigMapName": "authorities"},
    "ingress.pathTemplate": {"ingress.ingressDomain": "models.org"},
    "ingress.ingressDomain": {"ingress.pathTemplate": "/m/{{ .Name }}"},
    "credentials.s3.s3UseHttps": {"credentials.s3.s3Endpoint": "minio:9000"},
}
"""Settings that mean something beside others only."""


def config(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The config map that says this, and all else as KServe ships it."""
    data: dict[str, Any] = {}
    for path, value in settings.items():
        *parents, leaf = path.split(".")
        section = data
        for name in parents:
            section = section.setdefault(name, {})
        section[leaf] = value
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "inferenceservice-config", "namespace": "kserve"},
        "data": {name: json.dumps(section) for name, section in data.items()},
    }


def core(kind: str, name: str, namespace: str = "ns", **content: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}, **content}


def knative(kind: str, name: str, data: dict[str, str]) -> dict[str, Any]:
    return core(kind, name, "knative-serving", data=data)


SECRETS = [
    core("Secret", "s3", data={"AWS_ACCESS_KEY_ID": "eA==", "AWS_SECRET_ACCESS_KEY": "eA=="}),
    core("Secret", "keys", data={"KEY": "eA==", "AWS_ACCESS_KEY_ID": "eA=="}),
    core("Secret", "ids", data={"ID": "eA==", "AWS_ACCESS_KEY_ID": "eA==", "AWS_SECRET_ACCESS_KEY": "eA=="}),
    core("Secret", "gcs", data={"gcloud-application-credentials.json": "eA=="}),
    core("Secret", "storage-config", data={"here": "eyJ0eXBlIjoiczMiLCJidWNrZXQiOiJiIn0="}),
    core("Secret", "stores", data={"here": "eyJ0eXBlIjoiczMiLCJidWNrZXQiOiJjIn0="}),
]
NAMED = ("s3", "keys", "ids", "gcs")
WORLD = [
    *SECRETS,
    *(core("ServiceAccount", name, secrets=[{"name": name}]) for name in NAMED),
    core("ServiceAccount", "default"),
    core("ConfigMap", "authorities", "kserve", data={"cabundle.crt": "PEM"}),
    knative("ConfigMap", "config-features", {"kubernetes.podspec-init-containers": "enabled"}),
    knative("ConfigMap", "config-domain", {"example.com": ""}),
    runtime().to_json(),
    *(
        {"apiVersion": "serving.knative.dev/v1", "kind": "Service", **knative_service(f"iris-{part}").to_json()}
        for part in ("predictor", "explainer")
    ),
    {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", **virtual_service().to_json()},
]
CUSTOM = {"containers": [{"name": "kserve-container", "image": "example/app:1"}]}
MODEL = {"modelFormat": {"name": "sklearn"}}
ASKED = [
    manifest(
        {"logger": {"mode": "all"}},
        meta={"labels": {"team": "a"}, "annotations": {"example.com/note": "x", "example.com/secret": "s3"}},
        explainer={"art": {"type": "SquareAttack"}},
    ),
    {**manifest(name="custom"), "spec": {"predictor": CUSTOM}},
    *(manifest({"serviceAccountName": name}, name=name) for name in NAMED),
    manifest({"model": {**MODEL, "storage": {"key": "here", "path": "p"}}}, name="store"),
]
"""Services that between them use every setting."""
OVER_NODES = manifest(
    {
        "model": {**MODEL, "storageUri": "pvc://c", "resources": {"limits": {"acme.com/npu": "1"}}},
        "workerSpec": {},
    },
    meta={"annotations": {"serving.kserve.io/autoscalerClass": "none"}},
)


def made(settings: Mapping[str, Any]) -> str:
    """Everything that comes of the services under these settings: children, status, verdicts."""
    existing = [*WORLD, config(settings)]
    try:
        rendered = [render([item], existing=existing, namespace="ns", with_status=True) for item in ASKED]
    except UserError as error:
        return str(error)
    return json.dumps(rendered) + str([str(verdict) for verdict in validate([OVER_NODES], existing=existing)])


@cache
def made_with(beside: str) -> str:
    return made(json.loads(beside))


def test_every_setting_that_counts_is_probed() -> None:
    assert set(PROBES) == {f"{key}.{name}" for key, names in HONOURED.items() for name in names}


@pytest.mark.parametrize("name", PROBES)
def test_each_setting_that_counts_changes_what_is_made(name: str) -> None:
    beside = SHIPPED | dict(NEEDS.get(name, {}))
    assert made({**beside, name: PROBES[name]}) != made_with(json.dumps(beside))


@pytest.mark.skipif(not SHARED.exists(), reason="the reference recordings are not here")
def test_every_setting_that_kserve_ships_is_known_and_has_the_value_in_the_table() -> None:
    cluster = yaml.load_all((SHARED / "golden/kserve/cluster.yaml").read_text(), Loader=yaml.CSafeLoader)
    shipped = next(item for item in cluster if item["metadata"]["name"] == "inferenceservice-config")
    assert idle_settings(shipped["data"]) == ()


def test_a_setting_that_does_nothing_is_told_with_its_value_and_the_reason() -> None:
    found = idle_settings({"ingress": '{"enableGatewayApi": true, "ingressGatway": "a/b"}', "_example": "no JSON"})
    standard, typo = (str(item) for item in found)
    assert standard.startswith(
        "ingress.enableGatewayApi = True has no effect: only services of deployment mode Standard"
    )
    assert typo == "ingress.ingressGatway = 'a/b' has no effect: KServe has no such setting"
    assert [item.name for item in idle_settings({"ingres": "{}"})] == ["ingres"]


@pytest.mark.parametrize("name", [f"{key}.{name}" for key, names in WITHOUT_EFFECT.items() for name in names])
def test_each_setting_without_effect_is_told_unless_it_is_what_kserve_ships(name: str) -> None:
    key, _, setting = name.partition(".")
    shipped = config({name: WITHOUT_EFFECT[key][setting].shipped})["data"]
    assert idle_settings(shipped) == ()
    (told,) = idle_settings(config({name: "otherwise"})["data"])
    assert told.name == name


def test_the_settings_carry_what_is_idle() -> None:
    data = config({"localModel.enabled": True})["data"]
    assert [item.name for item in parse_settings(ConfigMap(data=data), {}).idle] == ["localModel.enabled"]


def test_every_key_that_does_nothing_stands_in_the_docs() -> None:
    text = (ROOT / "docs/differences.md").read_text()
    missing = [f"{key}.{name}" for key, names in WITHOUT_EFFECT.items() for name in names if f"`{name}`" not in text]
    assert missing == []
