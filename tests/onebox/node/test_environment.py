"""Environments as kubelet makes them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.quantity import parse_quantity
from controller.base.errors import UserError
from onebox.node.environment import (
    Surroundings,
    build_environment,
    expand,
    field_value,
    referenced_objects,
    thread_limits,
)
from onebox.node.spec import SourceKind
from tests.onebox.node.builders import container, pod

OBJECTS = {
    (SourceKind.CONFIG_MAP, "settings"): {"COLOR": b"blue", "SIZE": b"7"},
    (SourceKind.SECRET, "keys"): {"TOKEN": b"s3cret"},
    (SourceKind.CONFIG_MAP, "absent"): None,
}
AROUND = Surroundings(objects=OBJECTS, cpus=4, memory_bytes=8 * 2**30)


def environment(fixed: dict[str, str] | None = None, **fields: Any) -> dict[str, str]:
    made = pod(container(**fields))
    return build_environment(made, made.containers[0], AROUND, fixed=fixed or {})


def ref(kind: str, name: str, key: str, **more: Any) -> dict[str, Any]:
    return {"valueFrom": {kind: {"name": name, "key": key, **more}}}


def test_values_expand_what_was_defined_before() -> None:
    env = [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)$(C)"},
        {"name": "C", "value": "$(B)!"},
        {"name": "D", "value": "$$(A)"},
    ]
    assert environment(env=env) == {"A": "1", "B": "1$(C)", "C": "1$(C)!", "D": "$(A)"}


def test_keys_of_config_maps_and_secrets_become_values() -> None:
    env = [
        {"name": "COLOR", **ref("configMapKeyRef", "settings", "COLOR")},
        {"name": "TOKEN", **ref("secretKeyRef", "keys", "TOKEN")},
        {"name": "NONE", **ref("configMapKeyRef", "settings", "nothing", optional=True)},
        {"name": "NOBODY", **ref("configMapKeyRef", "absent", "x", optional=True)},
    ]
    assert environment(env=env) == {"COLOR": "blue", "TOKEN": "s3cret"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"env": [{"name": "X", **ref("configMapKeyRef", "absent", "k")}]}, 'configmap "absent" not found'),
        ({"env": [{"name": "X", **ref("secretKeyRef", "keys", "k")}]}, "couldn't find key k in Secret default/keys"),
        ({"envFrom": [{"configMapRef": {"name": "absent"}}]}, 'configmap "absent" not found'),
        (
            {"env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "spec.color"}}}]},
            "unsupported fieldPath: spec.color",
        ),
    ],
)
def test_what_is_missing_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message.replace("(", r"\(")) as caught:
        environment(**fields)
    assert caught.value.reason == "CreateContainerConfigError"


def test_whole_objects_come_first_and_later_ones_win() -> None:
    env_from = [
        {"configMapRef": {"name": "settings"}},
        {"prefix": "K_", "secretRef": {"name": "keys"}},
        {"configMapRef": {"name": "absent", "optional": True}},
    ]
    env = [{"name": "SIZE", "value": "8"}, {"name": "LABEL", "value": "$(COLOR)-$(SIZE)"}]
    assert environment(envFrom=env_from, env=env) == {
        "COLOR": "blue",
        "SIZE": "8",
        "K_TOKEN": "s3cret",
        "LABEL": "blue-8",
    }


def test_the_nodes_own_variables_win_and_can_be_referred_to() -> None:
    env = [{"name": "PORT", "value": "8080"}, {"name": "URL", "value": "http://localhost:$(PORT)"}]
    assert environment(fixed={"PORT": "20001"}, env=env) == {"PORT": "20001", "URL": "http://localhost:20001"}


def test_resources_are_told_in_their_unit_rounded_up() -> None:
    resources = {"limits": {"cpu": "1500m"}, "requests": {"memory": "1Gi"}}
    values = {
        "CPU": ("limits.cpu", None, "2"),
        "MILLI": ("limits.cpu", "1m", "1500"),
        "MEMORY": ("requests.memory", "1Mi", "1024"),
        "OF_MACHINE": ("limits.memory", "1Gi", "8"),
    }
    env = [
        {"name": name, "valueFrom": {"resourceFieldRef": {"resource": key, **({"divisor": d} if d else {})}}}
        for name, (key, d, _) in values.items()
    ]
    assert environment(env=env, resources=resources) == {name: wanted for name, (_, _, wanted) in values.items()}


def test_fields_of_the_pod() -> None:
    made = pod()
    assert field_value(made, "metadata.name") == "pod"
    assert field_value(made, "metadata.namespace") == "default"
    assert field_value(made, "metadata.uid") == "uid-pod"
    assert field_value(made, "status.podIP") == field_value(made, "status.hostIP") == "127.0.0.1"
    assert field_value(made, "spec.nodeName") == "onebox"
    assert field_value(made, "metadata.labels['app']") == ""


def test_only_objects_that_are_named_are_read() -> None:
    made = pod(
        container(
            env=[{"name": "A", **ref("configMapKeyRef", "settings", "A")}], envFrom=[{"secretRef": {"name": "s"}}]
        ),
        volumes=[
            {"name": "v", "projected": {"sources": [{"configMap": {"name": "p"}}, {"downwardAPI": {"items": []}}]}}
        ],
    )
    assert referenced_objects(made) == {
        (SourceKind.CONFIG_MAP, "settings"),
        (SourceKind.SECRET, "s"),
        (SourceKind.CONFIG_MAP, "p"),
    }


def test_libraries_are_told_how_many_threads_the_limit_allows() -> None:
    limited = pod(container(resources={"limits": {"cpu": "1500m"}})).containers[0]
    assert thread_limits(limited) == {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    assert thread_limits(pod().containers[0]) == {}


@given(st.text(alphabet="a$()B"), st.dictionaries(st.sampled_from(["a", "B"]), st.text(alphabet="xyz")))
def test_text_without_dollar_signs_never_changes(text: str, variables: dict[str, str]) -> None:
    plain = text.replace("$", "")
    assert expand(plain, variables) == plain


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1", 1),
        ("1500m", Fraction(3, 2)),
        ("0.5", Fraction(1, 2)),
        ("2Gi", 2**31),
        ("1E3", 1000),
        ("12e6", 12_000_000),
        ("1E", 10**18),
        ("1k", 1000),
    ],
)
def test_quantities(text: str, amount: Fraction) -> None:
    assert parse_quantity(text) == amount


@pytest.mark.parametrize("text", ["", "ten", "1Zi", "1.2.3"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_quantity(text)
