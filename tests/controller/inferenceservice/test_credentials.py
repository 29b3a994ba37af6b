"""Which credentials the storage initializer gets, and what is said where they are missing."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from controller.inferenceservice.ca_bundle import CaBundle
from controller.inferenceservice.config import S3Defaults, Settings
from controller.inferenceservice.secrets import Identities, view_account, view_secret
from tests.controller.inferenceservice.builders import child, conditions, knative_child, plan, service

HIDDEN = "hunter2-the-secret-value"


def secret(name: str, annotations: dict[str, str] | None = None, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "ns", "annotations": annotations or {}},
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }


def s3_secret(name: str = "s3", annotations: dict[str, str] | None = None, **data: str) -> dict[str, Any]:
    return secret(name, annotations, AWS_ACCESS_KEY_ID=HIDDEN, AWS_SECRET_ACCESS_KEY=HIDDEN, **data)


def account(*secrets: str, name: str = "sa", annotations: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "ns", "annotations": annotations or {}},
        "secrets": [{"name": item} for item in secrets],
    }


def known(*objects: dict[str, Any]) -> Identities:
    secrets = [view_secret(item) for item in objects if item.get("kind") == "Secret"]
    accounts = [view_account(item) for item in objects if item.get("kind") != "Secret"]
    return Identities(
        namespace="ns",
        accounts={item.name: item for item in accounts},
        secrets={item.name: item for item in secrets},
        complete=True,
    )


def predictor(account_name: str = "sa", **rest: Any) -> dict[str, Any]:
    model = {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://bucket/iris", **rest}
    return {"model": model, **({"serviceAccountName": account_name} if account_name else {})}


def stored(**storage: Any) -> dict[str, Any]:
    return {"model": {"modelFormat": {"name": "sklearn"}, "storage": storage}}


def rendered(given: dict[str, Any], *objects: dict[str, Any], **rest: Any) -> dict[str, Any]:
    """The pod of the predictor, which holds no value of a secret."""
    meta = rest.pop("meta", None)
    made = plan(service(given, meta=meta), identities=known(*objects), **rest)
    assert HIDDEN not in json.dumps([dict(item.manifest) for item in made.children])
    assert base64.b64encode(HIDDEN.encode()).decode() not in json.dumps([dict(item.manifest) for item in made.children])
    pod: dict[str, Any] = knative_child(made)["spec"]["template"]["spec"]
    return pod


def env(pod: dict[str, Any]) -> dict[str, Any]:
    """What the initializer gets beside the variables of every initializer: values, or secret and key."""
    found = {}
    for item in pod["initContainers"][0]["env"]:
        reference = item.get("valueFrom", {}).get("secretKeyRef")
        found[item["name"]] = (reference["name"], reference["key"]) if reference else item["value"]
    return {name: value for name, value in found.items() if not name.startswith("HF_") or name == "HF_TOKEN"}


def refusal(given: dict[str, Any], *objects: dict[str, Any], **rest: Any) -> tuple[str, str]:
    refused = plan(service(given), identities=known(*objects), **rest)
    assert refused.keep_children
    assert refused.status is not None
    assert conditions(refused)["PredictorReady"][0] == "False"
    ready = next(item for item in refused.status["conditions"] if item["type"] == "PredictorReady")
    (event,) = refused.events
    assert (event.type, event.reason, event.message) == ("Warning", ready["reason"], ready["message"])
    assert HIDDEN not in json.dumps(refused.status)
    return ready["reason"], ready["message"]


KEYS = {"AWS_ACCESS_KEY_ID": ("s3", "AWS_ACCESS_KEY_ID"), "AWS_SECRET_ACCESS_KEY": ("s3", "AWS_SECRET_ACCESS_KEY")}


class TestServiceAccount:
    def test_keys_are_referred_to_and_endpoints_are_plain(self) -> None:
        annotations = {"serving.kserve.io/s3-endpoint": "minio:9000", "serving.kserve.io/s3-usehttps": "0"}
        found = env(rendered(predictor(), account("s3"), s3_secret("s3", annotations)))
        endpoint = {"S3_USE_HTTPS": "0", "S3_ENDPOINT": "minio:9000", "AWS_ENDPOINT_URL": "http://minio:9000"}
        assert found == {**KEYS, **endpoint}

    @pytest.mark.parametrize(
        ("endpoint", "https", "expected"),
        [
            ("minio:9000", "0", ("0", "minio:9000", "http://minio:9000")),
            ("minio:9000", "1", ("1", "minio:9000", "https://minio:9000")),
            ("minio:9000", "", (None, "minio:9000", "https://minio:9000")),
            ("https://s3.example.com", "0", ("1", "s3.example.com", "https://s3.example.com")),
            ("HTTP://s3.example.com", "1", ("0", "s3.example.com", "HTTP://s3.example.com")),
        ],
    )
    def test_an_endpoint_decides_its_scheme(
        self, endpoint: str, https: str, expected: tuple[str | None, str, str]
    ) -> None:
        found = env(rendered(predictor(), account("s3"), s3_secret(S3_ENDPOINT=endpoint, S3_USE_HTTPS=https)))
        assert (found.get("S3_USE_HTTPS"), found["S3_ENDPOINT"], found["AWS_ENDPOINT_URL"]) == expected

    def test_an_annotation_wins_over_data_and_data_over_settings(self) -> None:
        defaults = S3Defaults(region="us", verify_ssl="1", anonymous="false", accelerate="true", virtual_bucket="true")
        settings = Settings(credentials=replace(Settings().credentials, s3=defaults))
        given = s3_secret("s3", {"serving.kserve.io/s3-region": "eu"}, AWS_DEFAULT_REGION="ap", S3_VERIFY_SSL="0")
        found = env(rendered(predictor(), account("s3"), given, settings=settings))
        assert found == {
            **KEYS,
            "S3_VERIFY_SSL": "0",
            "awsAnonymousCredential": "false",
            "AWS_DEFAULT_REGION": "eu",
            "S3_USER_VIRTUAL_BUCKET": "true",
            "S3_USE_ACCELERATE": "true",
        }

    def test_the_default_account_counts_where_none_is_named(self) -> None:
        assert env(rendered(predictor(""), account("s3", name="default"), s3_secret())) == KEYS

    def test_without_a_default_account_there_are_no_credentials(self) -> None:
        assert env(rendered(predictor(""), s3_secret())) == {}

    def test_an_annotation_of_the_service_names_the_one_secret(self) -> None:
        meta = {"annotations": {"serving.kserve.io/storageSecretName": "s3"}}
        found = env(rendered(predictor(), account("other"), s3_secret(), s3_secret("other"), meta=meta))
        assert found == KEYS

    def test_of_two_secrets_of_one_kind_the_later_counts(self) -> None:
        found = env(rendered(predictor(), account("first", "s3"), s3_secret("first", S3_ENDPOINT="m"), s3_secret()))
        assert {name: found[name] for name in KEYS} == KEYS

    def test_a_role_of_the_account_brings_settings_and_no_keys(self) -> None:
        annotations = {"eks.amazonaws.com/role-arn": "arn:r", "serving.kserve.io/s3-region": "eu"}
        assert env(rendered(predictor(), account(annotations=annotations))) == {"AWS_DEFAULT_REGION": "eu"}

    def test_a_file_of_google_is_mounted(self) -> None:
        pod = rendered(predictor(), account("g"), secret("g", **{"gcloud-application-credentials.json": HIDDEN}))
        assert env(pod) == {"GOOGLE_APPLICATION_CREDENTIALS": "/var/secrets/gcloud-application-credentials.json"}
        mount = {"name": "user-gcp-sa", "mountPath": "/var/secrets/", "readOnly": True}
        assert mount in pod["initContainers"][0]["volumeMounts"]
        assert {"name": "user-gcp-sa", "secret": {"secretName": "g"}} in pod["volumes"]
        assert all(mount not in item.get("volumeMounts", []) for item in pod["containers"])

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (
                {"AZ_CLIENT_ID": "x", "AZ_CLIENT_SECRET": "x", "AZ_TENANT_ID": "x", "AZ_SUBSCRIPTION_ID": "x"},
                {
                    "AZURE_SUBSCRIPTION_ID": "AZ_SUBSCRIPTION_ID",
                    "AZURE_TENANT_ID": "AZ_TENANT_ID",
                    "AZURE_CLIENT_ID": "AZ_CLIENT_ID",
                    "AZURE_CLIENT_SECRET": "AZ_CLIENT_SECRET",
                },
            ),
            (
                {"AZURE_CLIENT_ID": "x", "AZURE_TENANT_ID": "x", "AZURE_SERVICE_URL": "x"},
                {name: name for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_SERVICE_URL")},
            ),
            ({"AZURE_ACCESS_TOKEN": "x"}, {"AZURE_ACCESS_TOKEN": "AZURE_ACCESS_TOKEN"}),
            (
                {"AZURE_STORAGE_ACCESS_KEY": "x", "AZURE_ACCOUNT_NAME": "x"},
                {"AZURE_STORAGE_ACCESS_KEY": "AZURE_STORAGE_ACCESS_KEY"},
            ),
            ({"HF_TOKEN": "x"}, {"HF_TOKEN": "HF_TOKEN"}),
            ({"MODELSCOPE_API_TOKEN": "x"}, {"MODELSCOPE_API_TOKEN": "MODELSCOPE_API_TOKEN"}),
            ({"https-host": "models.example.com", "headers": "x"}, {"models.example.com-headers": "headers"}),
            ({"something": "else"}, {}),
        ],
    )
    def test_other_kinds_are_told_by_their_keys(self, data: dict[str, str], expected: dict[str, str]) -> None:
        found = env(rendered(predictor(), account("one"), secret("one", **data)))
        assert found == {variable: ("one", key) for variable, key in expected.items()}

    def test_files_of_hdfs_are_mounted(self) -> None:
        pod = rendered(predictor(), account("h"), secret("h", HDFS_NAMENODE="x"))
        mount = {"name": "hdfs-secrets", "mountPath": "/var/secrets/kserve-hdfscreds", "readOnly": True}
        assert mount in pod["initContainers"][0]["volumeMounts"]

    def test_a_claim_needs_no_credentials(self) -> None:
        given = {**predictor(), "model": {"modelFormat": {"name": "sklearn"}, "storageUri": "pvc://claim"}}
        assert "initContainers" not in rendered(given)

    def test_several_sources_share_the_credentials(self) -> None:
        uris = [{"uri": f"s3://b/{name}", "mountPath": f"/mnt/models/{name}"} for name in "ab"]
        given = {"model": {"modelFormat": {"name": "sklearn"}}, "storageUris": uris, "serviceAccountName": "sa"}
        pod = rendered(given, account("s3"), s3_secret())
        assert pod["initContainers"][0]["args"] == ["s3://b/a", "/mnt/models/a", "s3://b/b", "/mnt/models/b"]
        assert env(pod) == KEYS

    def test_what_nobody_looked_at_is_not_missing(self) -> None:
        pod = knative_child(plan(service(predictor())))["spec"]["template"]["spec"]
        assert env(pod) == {}


class TestStorageField:
    CONFIG = json.dumps({"type": "s3", "bucket": "mlp", "access_key_id": HIDDEN})

    def test_the_secret_says_store_and_bucket(self) -> None:
        pod = rendered(stored(key="mine", path="sklearn/model"), secret("storage-config", mine=self.CONFIG))
        assert pod["initContainers"][0]["args"] == ["s3://mlp/sklearn/model", "/mnt/models"]
        assert env(pod) == {"STORAGE_CONFIG": ("storage-config", "mine")}

    def test_parameters_win_and_are_handed_over(self) -> None:
        given = stored(key="mine", path="m", parameters={"type": "s3", "bucket": "other"})
        pod = rendered(given, secret("storage-config", mine=self.CONFIG))
        assert pod["initContainers"][0]["args"][0] == "s3://other/m"
        assert env(pod)["STORAGE_OVERRIDE_CONFIG"] == '{"bucket":"other","type":"s3"}'

    def test_parameters_alone_will_do(self) -> None:
        pod = rendered(stored(path="m", parameters={"type": "s3", "bucket": "b"}))
        assert pod["initContainers"][0]["args"][0] == "s3://b/m"
        assert env(pod) == {"STORAGE_OVERRIDE_CONFIG": '{"bucket":"b","type":"s3"}'}

    @pytest.mark.parametrize(("parameters", "key"), [({}, "default"), ({"type": "s3"}, "default_s3")])
    def test_without_a_key_the_default_one_counts(self, parameters: dict[str, str], key: str) -> None:
        pod = rendered(stored(path="m", parameters=parameters), secret("storage-config", **{key: self.CONFIG}))
        assert pod["initContainers"][0]["args"][0] == "s3://mlp/m"
        assert env(pod)["STORAGE_CONFIG"] == ("storage-config", key)

    def test_an_annotation_names_another_secret(self) -> None:
        meta = {"annotations": {"serving.kserve.io/storageSecretName": "mine"}}
        pod = rendered(stored(key="k", path="m"), secret("mine", k=self.CONFIG), meta=meta)
        assert env(pod) == {"STORAGE_CONFIG": ("mine", "k")}

    def test_the_service_account_does_not_count_beside_it(self) -> None:
        given = {**stored(key="k", path="m"), "serviceAccountName": "sa"}
        pod = rendered(given, account("s3"), s3_secret(), secret("storage-config", k=self.CONFIG))
        assert env(pod) == {"STORAGE_CONFIG": ("storage-config", "k")}

    def test_hdfs_has_no_buckets(self) -> None:
        pod = rendered(stored(key="k", path="m"), secret("storage-config", k='{"type": "hdfs"}'))
        assert pod["initContainers"][0]["args"][0] == "hdfs://m"

    def test_certificate_authorities_of_a_store(self) -> None:
        entry = json.dumps({"type": "s3", "bucket": "b", "cabundle_configmap": "authorities"})
        pod = rendered(stored(key="k", path="m"), secret("storage-config", k=entry))
        assert env(pod)["CA_BUNDLE_CONFIGMAP_NAME"] == "authorities"
        assert env(pod)["CA_BUNDLE_VOLUME_MOUNT_POINT"] == "/etc/ssl/custom-certs"
        assert {"name": "cabundle-cert", "configMap": {"name": "authorities"}} in pod["volumes"]


@pytest.mark.parametrize(
    ("given", "objects", "reason", "message"),
    [
        (predictor(), (), "ServiceAccountNotFound", "no service account sa in namespace ns"),
        (predictor(), (account("gone"),), "SecretNotFound", "secret gone in namespace ns, which service account sa"),
        (
            predictor(),
            (account("s3"), secret("s3", AWS_SECRET_ACCESS_KEY=HIDDEN)),
            "SecretKeyNotFound",
            "lacks AWS_ACCESS_KEY_ID",
        ),
        (
            predictor(),
            (account("h"), secret("h", **{"https-host": "h"})),
            "SecretKeyNotFound",
            "has https-host and lacks headers",
        ),
        (stored(key="k", path="m"), (account(),), "SecretNotFound", "no secret storage-config in namespace ns"),
        (
            stored(key="nothing", path="m"),
            (secret("storage-config", b="{}", a="{}"),),
            "SecretKeyNotFound",
            "storage.key = nothing: secret storage-config in namespace ns has no such key; its keys: a, b",
        ),
        (
            stored(key="k", path="m"),
            (secret("storage-config", k=HIDDEN),),
            "InvalidSecret",
            "key k of secret storage-config in namespace ns must hold a JSON object",
        ),
        (
            stored(key="k", path="m"),
            (secret("storage-config", k='{"type": "s3"}'),),
            "InvalidStorage",
            "no bucket is known; set storage.parameters.bucket",
        ),
        (stored(path="m"), (account(),), "InvalidStorage", "no type is known"),
        (
            stored(path="m", parameters={"type": "ftp"}),
            (account(),),
            "InvalidStorage",
            "type = ftp; storage.parameters.type .* must say one of s3, hdfs, webhdfs",
        ),
        (stored(key="k"), (account(),), "InvalidStorage", "storage.path is missing"),
    ],
)
def test_what_is_missing_is_said(
    given: dict[str, Any], objects: tuple[dict[str, Any], ...], reason: str, message: str
) -> None:
    found = refusal(given, *objects)
    assert found[0] == reason
    with pytest.raises(ValueError, match=message):
        raise ValueError(found[1])


class TestCaBundle:
    BUNDLE = CaBundle(config_map="global-ca-bundle", copied_from="kserve/authorities", content="PEM")

    def test_it_is_copied_into_the_namespace_and_mounted(self) -> None:
        made = plan(service(predictor("")), ca_bundle=self.BUNDLE)
        copy = child(made, "ConfigMap")
        assert copy["data"] == {"cabundle.crt": "PEM"}
        assert "ownerReferences" not in copy["metadata"]
        pod = knative_child(made)["spec"]["template"]["spec"]
        assert env(pod) == {
            "CA_BUNDLE_CONFIGMAP_NAME": "global-ca-bundle",
            "CA_BUNDLE_VOLUME_MOUNT_POINT": "/etc/ssl/custom-certs",
        }
        mount = {"name": "cabundle-cert", "mountPath": "/etc/ssl/custom-certs", "readOnly": True}
        assert mount in pod["initContainers"][0]["volumeMounts"]

    def test_a_secrets_own_authorities_win(self) -> None:
        given = s3_secret(AWS_CA_BUNDLE="/my/certs/ca.crt", AWS_CA_BUNDLE_CONFIGMAP="own")
        pod = rendered(predictor(), account("s3"), given, ca_bundle=self.BUNDLE)
        assert env(pod)["CA_BUNDLE_CONFIGMAP_NAME"] == "own"
        assert env(pod)["CA_BUNDLE_VOLUME_MOUNT_POINT"] == "/my/certs"

    def test_an_original_that_is_missing_is_named(self) -> None:
        empty = replace(self.BUNDLE, content="")
        assert refusal(predictor(""), account(name="default"), ca_bundle=empty)[0] == "CaBundleNotFound"
