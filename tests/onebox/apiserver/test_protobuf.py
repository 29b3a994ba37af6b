"""Protobuf bodies: what kubectl sends is covered by test_kubectl; here are encodings built by hand, and nonsense."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebox.apiserver.objects.protobuf import BadMessage, decode_object


def _varint(number: int) -> bytes:
    out = b""
    number &= (1 << 64) - 1
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _body(api_version: str, kind: str, raw: bytes) -> bytes:
    return b"k8s\x00" + _field(1, _field(1, api_version) + _field(2, kind)) + _field(2, raw)


META = _field(1, _field(1, "n") + _field(2, "") + _field(8, b"") + _field(11, _field(1, "k") + _field(2, "v")))


def _decode(kind: str, raw: bytes, api_version: str = "v1", group: str = "") -> dict[str, Any]:
    return decode_object(_body(api_version, kind, raw), group, kind)


def test_maps_bytes_and_bools_become_json() -> None:
    raw = META + _field(2, _field(1, "a") + _field(2, b"\x00\x01")) + _field(3, "Opaque") + _field(5, 0)
    assert _decode("Secret", raw) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "n", "labels": {"k": "v"}},
        "data": {"a": "AAE="},
        "type": "Opaque",
        "immutable": False,
    }


def test_a_map_entry_without_value_has_an_empty_one() -> None:
    assert _decode("ConfigMap", _field(2, _field(1, "a")))["data"] == {"a": ""}


def test_int_or_string_quantities_and_embedded_sources() -> None:
    port = _field(3, 80) + _field(4, _field(1, 0) + _field(2, 8080) + _field(3, ""))
    named = _field(3, 81) + _field(4, _field(1, 1) + _field(3, "http"))
    service = _decode("Service", _field(2, _field(1, port) + _field(1, named)))
    assert [item["targetPort"] for item in service["spec"]["ports"]] == [8080, "http"]
    limits = _field(1, _field(1, "cpu") + _field(2, _field(1, "500m")))
    container = _field(1, "c") + _field(2, "i") + _field(8, limits)
    volume = _field(1, "v") + _field(2, _field(2, b""))
    pod = _decode("Pod", _field(2, _field(1, volume) + _field(2, container)))
    assert pod["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "500m"}}
    assert pod["spec"]["volumes"] == [{"name": "v", "emptyDir": {}}]


def test_zero_is_kept_where_it_says_something() -> None:
    deployment = _decode("Deployment", _field(2, _field(1, 0) + _field(5, 0)), "apps/v1", "apps")
    assert deployment["spec"] == {"replicas": 0}


def test_times_and_negative_numbers() -> None:
    meta = _field(1, _field(8, _field(1, 1767225600)))
    lease = _decode("Lease", meta + _field(2, _field(2, -1)), "coordination.k8s.io/v1", "coordination.k8s.io")
    assert lease["metadata"]["creationTimestamp"] == "2026-01-01T00:00:00Z"
    assert lease["spec"]["leaseDurationSeconds"] == -1


def test_fields_that_nobody_knows_are_passed_over() -> None:
    later = _field(99, "later") + _varint(98 << 3 | 1) + b"12345678" + _varint(97 << 3 | 5) + b"1234"
    assert _decode("ConfigMap", META + later)["metadata"]["name"] == "n"


def test_options_of_a_deletion_can_be_read() -> None:
    options = decode_object(
        _body("v1", "DeleteOptions", _field(1, 0) + _field(4, "Foreground")), "meta", "DeleteOptions"
    )
    assert options["gracePeriodSeconds"] == 0
    assert options["propagationPolicy"] == "Foreground"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"k8s\x00\xff",
        _body("v1", "ConfigMap", META)[:-3],
        b"k8s\x00" + _field(2, _varint(1 << 3 | 3)),
        _body("example.com/v1", "Gizmo", b""),
        b"k8s\x00" + _field(1, 7),
    ],
)
def test_other_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(BadMessage):
        decode_object(body, "example.com", "Gizmo") if b"Gizmo" in body else decode_object(body, "", "ConfigMap")


@given(st.binary(max_size=200))
def test_no_bytes_do_worse_than_being_refused(data: bytes) -> None:
    for kind in ("Pod", "ConfigMap", "Event"):
        try:
            decode_object(b"k8s\x00" + data, "", kind)
        except BadMessage:
            continue
