"""Which command stands for an image, and how a container is run."""

from __future__ import annotations

import pytest

from onebox.node.images import (
    ON_DEMAND,
    PRELOADS,
    RUNTIMES,
    Role,
    chosen_preloads,
    embedding_container,
    image_name,
    installed,
    lives_in,
    mapped_command,
    parse_image_commands,
    role_of,
    runtime_of,
    unknown_image_message,
)
from onebox.node.spec import Pod
from tests.onebox.node.builders import container, knative_containers, pod


def roles(made: Pod) -> dict[str, Role]:
    return {each.name: role_of(made, each, {}) for each in made.all_containers}


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("kserve/sklearnserver:v0.15.2", "sklearnserver"),
        ("docker.io/kserve/sklearnserver", "sklearnserver"),
        ("localhost:5000/sklearnserver", "sklearnserver"),
        ("sklearnserver@sha256:0123", "sklearnserver"),
        ("kserve/sklearnserver:latest@sha256:0123", "sklearnserver"),
    ],
)
def test_registry_tag_and_digest_do_not_matter(image: str, name: str) -> None:
    assert image_name(image) == name


def test_a_runtimes_process_contains_the_queue_proxy() -> None:
    made = pod(*knative_containers())
    assert roles(made) == {"kserve-container": Role.RUNTIME, "queue-proxy": Role.EMBEDDED}
    assert embedding_container(made) is made.containers[0]


def test_what_lives_inside_is_told_of_a_pod_that_was_read_anew() -> None:
    """A pod's object changes while its server starts, by its ports at least; nobody would probe the queue-proxy then."""
    before, after = pod(*knative_containers()), pod(*knative_containers())
    started = before.containers[0]
    assert [each.name for each in after.containers if lives_in(after, each, started)] == ["queue-proxy"]
    assert [each.name for each in after.containers if lives_in(after, each, before.containers[1])] == []


def test_in_front_of_a_foreign_process_the_queue_proxy_is_one_of_its_own() -> None:
    user, proxy = knative_containers(command=["python", "-m", "my_server"])
    made = pod(user, proxy)
    assert roles(made) == {"kserve-container": Role.COMMAND, "queue-proxy": Role.PROXY}
    assert embedding_container(made) is None


def test_the_storage_initializer_contains_no_queue_proxy() -> None:
    loader = container("storage-initializer", image="kserve/storage-initializer:latest", command=[])
    user, proxy = knative_containers(image="example.com/mine", command=["serve"])
    made = pod(user, proxy, initContainers=[loader])
    assert roles(made) == {
        "storage-initializer": Role.RUNTIME,
        "kserve-container": Role.COMMAND,
        "queue-proxy": Role.PROXY,
    }


def test_an_image_that_nobody_knows_says_how_to_map_it() -> None:
    made = pod(container(image="example.com/strange:2", command=[]))
    assert roles(made) == {"main": Role.UNKNOWN}
    commands = parse_image_commands("example.com/strange* = python -m strange --level 'very high'")
    assert role_of(made, made.containers[0], commands) is Role.COMMAND
    assert mapped_command("example.com/strange:2", commands) == ("python", "-m", "strange", "--level", "very high")
    assert "ladle-system/onebox-images" in unknown_image_message("example.com/strange:2")
    assert '"example.com/strange:2 = python -m my_server"' in unknown_image_message("example.com/strange:2")


def test_lines_of_the_mapping_that_say_nothing_are_passed_over() -> None:
    text = "\n# a = b\nnothing\nx/y=run\nquote = 'open\n"
    assert parse_image_commands(text) == {"x/y": ("run",)}


def test_the_first_pattern_that_fits_wins() -> None:
    commands = parse_image_commands("a/b:1 = first\na/* = second")
    assert mapped_command("a/b:1", commands) == ("first",)
    assert mapped_command("a/c:1", commands) == ("second",)
    assert mapped_command("b/c:1", commands) == ()


def test_a_containers_own_command_wins_over_its_image() -> None:
    made = pod(container(image="kserve/sklearnserver", command=["serve"]))
    assert runtime_of(made.containers[0]) is None


def test_templates_are_chosen_by_an_environment_variable() -> None:
    assert chosen_preloads({}) == PRELOADS
    assert chosen_preloads({"LADLE_TEMPLATES": "storage, nothing"}).keys() == {"storage"}
    assert chosen_preloads({"LADLE_TEMPLATES": ""}) == {}


def test_every_template_of_a_runtime_is_one_that_is_kept() -> None:
    assert {runtime.template for runtime in RUNTIMES.values()} - PRELOADS.keys() <= {"pythonserver"}
    assert PRELOADS.keys() >= ON_DEMAND


def test_only_what_is_installed_can_be_started() -> None:
    assert installed("runtimes.storage")
    assert not installed("runtimes.nosuchserver")
