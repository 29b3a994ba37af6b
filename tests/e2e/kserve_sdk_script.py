"""kserve's own SDK against a kubeconfig: what it was told, as JSON on the last line. Run by the interpreter that has kserve.

Arguments: the kubeconfig, the gateway's HOST:PORT, a model's URI, another's, S3's endpoint, a credentials file for S3, one for
GCS. The model is also at s3://models/iris.
"""

import json
import sys
import threading
import time
from typing import Any

import requests
from kserve import (
    KServeClient,
    V1beta1InferenceService,
    V1beta1InferenceServiceSpec,
    V1beta1ModelFormat,
    V1beta1ModelSpec,
    V1beta1PredictorSpec,
    constants,
)
from kubernetes import client as kubernetes

NAMESPACE = "default"
ACCOUNT = "sdk-credentials"
PAUSE = threading.Event()
"""Never set: what waits for it only lets time pass between two looks."""
DEADLINE_S = 90
WAIT = {"namespace": NAMESPACE, "timeout_seconds": DEADLINE_S, "polling_interval": 1}
ROWS = {"instances": [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]}


def service(name: str, uri: str, **predictor: Any) -> V1beta1InferenceService:
    model = V1beta1ModelSpec(model_format=V1beta1ModelFormat(name="sklearn"), storage_uri=uri)
    return V1beta1InferenceService(
        api_version=constants.KSERVE_V1BETA1,
        kind=constants.KSERVE_KIND_INFERENCESERVICE,
        metadata=kubernetes.V1ObjectMeta(name=name, namespace=NAMESPACE),
        spec=V1beta1InferenceServiceSpec(predictor=V1beta1PredictorSpec(model=model, **predictor)),
    )


def refusal(call: Any, *arguments: Any, **named: Any) -> str:
    """What a call that has to fail says."""
    try:
        call(*arguments, **named)
    except RuntimeError as error:
        return str(error)
    return "not refused"


def predict(gateway: str, isvc: dict[str, Any]) -> Any:
    """As KServe's own tests do: the gateway's address, the service's host as Host."""
    name = isvc["metadata"]["name"]
    host = isvc["status"]["url"].partition("://")[2]
    answer = requests.post(
        f"http://{gateway}/v1/models/{name}:predict", json=ROWS, headers={"Host": host}, timeout=DEADLINE_S
    )
    return answer.json()


def live_through(client: KServeClient, gateway: str, first: str, second: str) -> dict[str, Any]:
    """One service from its creation to its deletion."""
    said: dict[str, Any] = {}
    created = client.create(service("sdk", first))
    said["created"] = [created["metadata"]["name"], created["metadata"]["generation"]]
    client.wait_isvc_ready("sdk", **WAIT)
    said["ready"] = client.is_isvc_ready("sdk", namespace=NAMESPACE)
    client.wait_model_ready(
        "sdk", "sdk", isvc_namespace=NAMESPACE, cluster_ip=gateway, timeout_seconds=DEADLINE_S, polling_interval=1
    )
    said["first"] = predict(gateway, client.get("sdk", namespace=NAMESPACE))
    said["listed"] = [item["metadata"]["name"] for item in client.get(namespace=NAMESPACE)["items"]]

    patched = client.patch("sdk", service("sdk", second, canary_traffic_percent=20))
    client.wait_isvc_ready("sdk", expected_generation=patched["metadata"]["generation"], **WAIT)
    traffic = client.get("sdk", namespace=NAMESPACE)["status"]["components"]["predictor"]["traffic"]
    said["canary"] = [[item["percent"], item["latestRevision"]] for item in traffic]

    replaced = client.replace("sdk", service("sdk", second), watch=False)
    generation = replaced["metadata"]["generation"]
    client.wait_isvc_ready("sdk", watch=True, namespace=NAMESPACE, expected_generation=generation, timeout_seconds=90)
    # No second look: what the watch ended at is the change itself.
    said["ready after the watch"] = client.is_isvc_ready("sdk", namespace=NAMESPACE, expected_generation=generation)
    said["status after the watch"] = client.get("sdk", namespace=NAMESPACE)["status"]
    said["second"] = predict(gateway, replaced)

    stale = service("sdk", first)
    stale.metadata.resource_version = created["metadata"]["resourceVersion"]
    said["stale"] = refusal(client.replace, "sdk", stale)
    said["created twice"] = refusal(client.create, service("sdk", first))
    said["invalid"] = refusal(client.create, service("sdk-invalid", first, canary_traffic_percent=120))
    said["deleted"] = client.delete("sdk", namespace=NAMESPACE)["status"]
    said["after"] = wait_for_refusal(client)
    return said


def wait_for_refusal(client: KServeClient) -> str:
    """The service goes once its children may go."""
    deadline_s = time.monotonic() + DEADLINE_S
    while (said := refusal(client.get, "sdk", namespace=NAMESPACE)) == "not refused":
        if time.monotonic() > deadline_s:
            break
        PAUSE.wait(0.1)
    return said


def use_credentials(client: KServeClient, gateway: str, endpoint: str, s3_file: str, gcs_file: str) -> dict[str, Any]:
    """Credentials of two stores at one new service account, and a model from a bucket with them."""
    client.set_credentials(
        "S3",
        namespace=NAMESPACE,
        credentials_file=s3_file,
        service_account=ACCOUNT,
        s3_endpoint=endpoint.partition("://")[2],
        s3_region="us-east-1",
        s3_use_https="0",
        s3_verify_ssl="0",
    )
    client.set_credentials("GCS", namespace=NAMESPACE, credentials_file=gcs_file, service_account=ACCOUNT)
    account = client.core_api.read_namespaced_service_account(ACCOUNT, NAMESPACE)
    secrets = [client.core_api.read_namespaced_secret(item.name, NAMESPACE) for item in account.secrets]
    client.create(service("sdk-bucket", "s3://models/iris", service_account_name=ACCOUNT))
    client.wait_isvc_ready("sdk-bucket", **WAIT)
    answer = predict(gateway, client.get("sdk-bucket", namespace=NAMESPACE))
    client.delete("sdk-bucket", namespace=NAMESPACE)
    return {
        "secrets": sorted(sorted(secret.data) for secret in secrets),
        "names": [secret.metadata.name for secret in secrets],
        "from the bucket": answer,
    }


def main(kubeconfig: str, gateway: str, first: str, second: str, endpoint: str, s3_file: str, gcs_file: str) -> None:
    client = KServeClient(config_file=kubeconfig)
    said = live_through(client, gateway, first, second)
    said |= use_credentials(client, gateway, endpoint, s3_file, gcs_file)
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
