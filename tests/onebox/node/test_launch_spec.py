"""What is started for a container."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest

from controller.base.errors import UserError
from onebox.node.environment import Surroundings
from onebox.node.images import Role, host_of, role_of
from onebox.node.launch_spec import LaunchSpec, Places, PodContext, Start, build_launch, rewrite_probe_port
from onebox.node.spec import Pod
from tests.onebox.node.builders import agent, container, knative_containers, pod

PORTS = {8080: 20001, 8012: 20002, 9090: 20003}
AROUND = Surroundings(objects={}, cpus=4, memory_bytes=2**30)


def launch(
    made: Pod,
    name: str = "main",
    *,
    ports: dict[int, int] | None = None,
    commands: dict[str, tuple[str, ...]] | None = None,
) -> LaunchSpec:
    context = PodContext(
        pod=made,
        ports=ports or PORTS,
        places=Places(home=Path("/home"), pod=Path("/home/p"), volumes={"model": Path("/home/p/volumes/model")}),
        around=AROUND,
        commands=commands or {},
        inherited={"PATH": "/bin", "HOME": "/root"},
    )
    start = Start(container=made.container(name), launch="launch-1", restarts=2, log=Path("/log/2.log"))
    return build_launch(context, start)


MOUNTED: dict[str, Any] = {"volumeMounts": [{"name": "model", "mountPath": "/mnt/models"}]}


def test_a_runtime_is_a_module_with_the_queue_proxys_settings() -> None:
    spec = launch(pod(*knative_containers(**MOUNTED)), "kserve-container")
    assert (spec.module, spec.template) == ("runtimes.sklearnserver", "tabular")
    assert spec.argv == ("--model_name=iris", "--model_dir=/home/p/volumes/model")
    assert spec.command[1:3] == ("-m", "runtimes.sklearnserver")
    assert {
        "PORT": "20001",
        "USER_PORT": "20001",
        "LADLE_HTTP_PORT": "20002",
        "LADLE_ADMIN_PORT": "20003",
        "LADLE_HOST": "127.0.0.1",
        "CONTAINER_CONCURRENCY": "4",
        "SERVING_POD": "pod",
        "POD_NAME": "pod",
        "POD_NAMESPACE": "default",
        "LADLE_POD_UID": "uid-pod",
        "LADLE_CONTAINER": "kserve-container",
        "LADLE_LAUNCH": "launch-1",
        "LADLE_ONEBOX_HOME": "/home",
        "LADLE_TERMINATION_LOG": "/home/p/containers/kserve-container/termination-log-2",
        "PATH": "/bin",
    }.items() <= spec.env.items()
    assert json.loads(spec.env["SERVING_READINESS_PROBE"])["tcpSocket"]["port"] == 20001
    assert "LADLE_GRPC_PORT" not in spec.env


def test_a_foreign_server_gets_its_port_and_nothing_of_the_queue_proxy() -> None:
    made = pod(*knative_containers(command=["serve", "--port", "$(PORT)"], args=["/mnt/models"], **MOUNTED))
    spec = launch(made, "kserve-container")
    assert spec.command == ("serve", "--port", "20001", "/home/p/volumes/model")
    assert spec.module == spec.template == ""
    assert spec.env["PORT"] == "20001"
    assert "CONTAINER_CONCURRENCY" not in spec.env
    assert "LADLE_HTTP_PORT" not in spec.env
    assert spec.env["LADLE_GRPC_PORT"] == "0"  # A server of ours in it must not take the default port of all.


def test_its_queue_proxy_is_told_where_it_is() -> None:
    spec = launch(pod(*knative_containers(command=["serve"])), "queue-proxy")
    assert spec.module == "runtimes.queueproxy"
    assert {"USER_PORT": "20001", "LADLE_HTTP_PORT": "20002", "LADLE_ADMIN_PORT": "20003"}.items() <= spec.env.items()
    assert json.loads(spec.env["SERVING_READINESS_PROBE"])["tcpSocket"]["port"] == 20001
    assert "PORT" not in spec.env


class TestAgent:
    """KServe's agent has no process: whoever it stands beside is started with its arguments."""

    FLAGS = ("--enable-batcher", "--max-batchsize", "8", "--component-port", "5000")
    BEHIND: ClassVar[dict[str, Any]] = {"ports": [], "env": [{"name": "PORT", "value": "5000"}]}
    MAPPED: ClassVar[dict[int, int]] = {**PORTS, 5000: 20004, 9081: 20002}

    def test_a_runtime_does_its_work(self) -> None:
        user, proxy = knative_containers(**self.BEHIND)
        spec = launch(pod(user, agent(*self.FLAGS[:3], port=5000), proxy), "kserve-container", ports=self.MAPPED)
        assert spec.argv[-5:] == self.FLAGS
        assert spec.env["LADLE_HTTP_PORT"] == "20002"
        assert json.loads(spec.env["SERVING_READINESS_PROBE"])["httpGet"]["path"] == "/ready"

    def test_the_queue_proxy_of_a_foreign_server_does(self) -> None:
        user, proxy = knative_containers(command=["serve", "$(PORT)"], args=[], **self.BEHIND)
        made = pod(user, agent(*self.FLAGS[:3], port=5000), proxy)
        assert launch(made, "kserve-container", ports=self.MAPPED).command == ("serve", "20004")
        spec = launch(made, "queue-proxy", ports=self.MAPPED)
        assert (spec.module, spec.argv) == ("runtimes.queueproxy", self.FLAGS)
        assert spec.env["USER_PORT"] == "20004"
        assert json.loads(spec.env["SERVING_READINESS_PROBE"])["httpGet"]["path"] == "/ready"

    @pytest.mark.parametrize(("command", "host"), [([], "kserve-container"), (["serve"], "queue-proxy")])
    def test_it_is_never_started_itself(self, command: list[str], host: str) -> None:
        user, proxy = knative_containers(command=command, **self.BEHIND)
        made = pod(user, agent(port=5000), proxy)
        beside = made.container("agent")
        assert role_of(made, beside, {}) is Role.EMBEDDED
        assert host_of(made, beside) == made.container(host)

    def test_another_program_of_that_name_is_a_container_like_others(self) -> None:
        user, proxy = knative_containers()
        made = pod(user, agent(command=["mine"]), proxy)
        assert role_of(made, made.container("agent"), {}) is Role.COMMAND


def test_a_runtime_without_queue_proxy_serves_on_its_containers_port() -> None:
    made = pod(container(image="kserve/sklearnserver", command=[], ports=[{"containerPort": 8080}]))
    spec = launch(made, ports={8080: 20001})
    assert spec.env["LADLE_HTTP_PORT"] == spec.env["PORT"] == "20001"
    assert "LADLE_ADMIN_PORT" not in spec.env


def test_a_runtime_with_grpc_serves_both() -> None:
    grpc = [{"containerPort": 8081, "name": "h2c"}]
    spec = launch(
        pod(container(image="kserve/sklearnserver", command=[], ports=grpc)), ports={8080: 20001, 8081: 20002}
    )
    assert (spec.env["LADLE_HTTP_PORT"], spec.env["LADLE_GRPC_PORT"]) == ("20001", "20002")


@pytest.mark.parametrize(
    ("protocol", "http", "grpc"), [("v2", "20004", None), ("grpc-v2", "0", "20004")], ids=["rest", "grpc"]
)
def test_a_predictor_beside_its_transformer_serves_where_it_is_asked(
    protocol: str, http: str, grpc: str | None
) -> None:
    told = ["--predictor_host=localhost:8085", f"--predictor_protocol={protocol}"]
    user, proxy = knative_containers(name="transformer-container", image="ladle-image-transformer", args=told)
    made = pod(container("kserve-container", image="kserve/onnxserver", command=[]), user, proxy)
    spec = launch(made, "kserve-container", ports={**PORTS, 8085: 20004})
    assert (spec.env["LADLE_HTTP_PORT"], spec.env.get("LADLE_GRPC_PORT")) == (http, grpc)
    asking = launch(made, user["name"], ports={**PORTS, 8085: 20004})
    assert "--predictor_host=localhost:20004" in asking.argv
    assert asking.env["LADLE_AWAITED_PORT"] == "20004"
    assert "LADLE_AWAITED_PORT" not in spec.env


def test_a_container_beside_the_server_is_told_no_port() -> None:
    made = pod(container(ports=[{"containerPort": 8080}]), container("sidecar"))
    assert "PORT" in launch(made).env
    assert "PORT" not in launch(made, "sidecar").env


def test_an_init_container_is_told_no_port() -> None:
    loader = container(
        "load", image="kserve/storage-initializer:1", command=[], args=["file:///m", "/mnt/models"], **MOUNTED
    )
    spec = launch(pod(initContainers=[loader]), "load")
    assert spec.module == "runtimes.storage"
    assert spec.argv == ("file:///m", "/home/p/volumes/model")
    assert "PORT" not in spec.env
    assert "LADLE_HTTP_PORT" not in spec.env


def test_initializers_share_a_cache_unless_they_are_told_another_one() -> None:
    def load(**fields: Any) -> LaunchSpec:
        loader = container("load", image="kserve/storage-initializer:1", command=[], args=["file:///m", "/m"], **fields)
        return launch(pod(container(), initContainers=[loader]), "load")

    assert load().env["LADLE_STORAGE_CACHE"] == "/home/cache/storage"
    assert load(env=[{"name": "LADLE_STORAGE_CACHE", "value": ""}]).env["LADLE_STORAGE_CACHE"] == ""
    assert "LADLE_STORAGE_CACHE" not in launch(pod(container())).env


def test_a_mapped_image_runs_the_command_that_it_is_mapped_to() -> None:
    made = pod(container(image="example.com/app:1", command=[], args=["--fast"]))
    assert launch(made, commands={"example.com/*": ("serve", "it")}).command == ("serve", "it", "--fast")


def test_paths_are_rewritten_in_the_environment_too() -> None:
    env = [{"name": "MODEL", "value": "/mnt/models/1"}, {"name": "LAST_WORDS", "value": "/dev/termination-log"}]
    spec = launch(pod(container(env=env, **MOUNTED)))
    assert spec.env["MODEL"] == "/home/p/volumes/model/1"
    assert spec.env["LAST_WORDS"] == spec.env["LADLE_TERMINATION_LOG"]


def test_a_process_starts_in_its_own_directory_or_in_a_mounted_one(tmp_path: Path) -> None:
    assert launch(pod()).cwd == Path("/home/p/containers/main")
    assert launch(pod(container(workingDir=str(tmp_path)))).cwd == tmp_path
    with pytest.raises(UserError, match="workingDir = /no/such, there is no such directory"):
        launch(pod(container(workingDir="/no/such")))


def test_what_the_container_sets_itself_wins_over_defaults() -> None:
    env = [
        {"name": "OMP_NUM_THREADS", "value": "3"},
        {"name": "POD_NAME", "value": "mine"},
        {"name": "PATH", "value": "/x"},
    ]
    spec = launch(pod(container(env=env, resources={"limits": {"cpu": "1"}})))
    assert (spec.env["OMP_NUM_THREADS"], spec.env["POD_NAME"], spec.env["PATH"]) == ("3", "mine", "/x")
    assert spec.env["MKL_NUM_THREADS"] == "1"


@pytest.mark.parametrize("text", ["", "not json", "[1]", '{"exec": {"command": ["x"]}}', '{"tcpSocket": {"port": 1}}'])
def test_a_probe_without_a_known_port_stays_as_it_is(text: str) -> None:
    rewritten = rewrite_probe_port(text, PORTS)
    assert rewritten == text or json.loads(rewritten) == json.loads(text)
