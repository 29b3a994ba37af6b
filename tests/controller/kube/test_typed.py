"""TypedObjects: each version of an object is parsed once, as each kind that is asked for, and not all are kept."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from controller.api.core import Pod, Service
from controller.api.meta import Resource
from controller.base.json import JsonObject
from controller.kube.typed import TypedObjects


def manifest(name: str) -> JsonObject:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": []}}


def test_a_version_is_parsed_once_for_each_type() -> None:
    typed, item = TypedObjects(), manifest("one")
    assert typed.of(Pod, item) is typed.of(Pod, item)
    assert typed.of(Resource, item).metadata.name == "one"
    assert typed.of(Pod, item) == Pod.parse(item)


def test_an_equal_object_is_another_version() -> None:
    typed = TypedObjects()
    assert typed.of(Pod, manifest("one")) is not typed.of(Pod, manifest("one"))


def test_of_many_objects_only_the_latest_used_are_kept() -> None:
    typed = TypedObjects(parsed_max=2)
    first, second, third = manifest("1"), manifest("2"), manifest("3")
    kept, dropped = typed.of(Pod, first), typed.of(Pod, second)
    assert typed.of(Pod, first) is kept
    typed.of(Pod, third)
    assert typed.of(Pod, first) is kept
    assert typed.of(Pod, second) is not dropped


def test_a_wrong_object_is_refused_each_time() -> None:
    typed, wrong = TypedObjects(), {**manifest("one"), "spec": {"ports": "none"}}
    for _ in range(2):
        with pytest.raises(ValidationError):
            typed.of(Service, wrong)
