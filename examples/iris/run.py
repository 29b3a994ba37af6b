"""Serves the iris model on the onebox that runs and asks it: what `make up` does after `ladle up`."""

import json
import subprocess
import sys
from pathlib import Path

import yaml

from ladle.sdk.client import Client
from onebox.home import Home

HERE = Path(__file__).parent
BUILD = HERE / "build"


def main() -> None:
    if not (BUILD / "inferenceservice.yaml").exists():
        subprocess.run([sys.executable, str(HERE / "train.py")], check=True)
    home = Home.locate()
    client = Client(home.kubeconfig)
    manifest = yaml.safe_load((BUILD / "inferenceservice.yaml").read_text())
    client.apply(manifest)
    service = client.wait_ready("sklearn-iris")
    answer = client.predict("sklearn-iris", json.loads((HERE / "input.json").read_text()))
    print(json.dumps(answer))
    print(NEXT.format(url=service["status"]["url"], kubeconfig=home.kubeconfig), file=sys.stderr)


NEXT = """
sklearn-iris serves at {url}
  curl {url}/v1/models/sklearn-iris:predict -d @examples/iris/input.json
  .venv/bin/ladle status
  .venv/bin/ladle logs sklearn-iris
  KUBECONFIG='{kubeconfig}' kubectl get isvc
  make down"""

if __name__ == "__main__":
    main()
