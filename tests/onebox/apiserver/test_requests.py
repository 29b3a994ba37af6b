"""What is read out of a request: paths, selectors, options, pages; and the refusals of nonsense."""

from __future__ import annotations

import pytest

from controller.api.quantity import quantity_or_none
from onebox.apiserver.pages import Pages
from onebox.apiserver.requests import (
    Form,
    parse_delete_options,
    parse_flag,
    parse_form,
    parse_target,
    parse_write_options,
)
from onebox.apiserver.resources.builtin import BuiltinSchemas, builtin_resources
from onebox.apiserver.resources.crds import CRD
from onebox.apiserver.resources.registry import Registry, version_rank
from onebox.apiserver.selectors import Selector, parse_fields, parse_labels
from onebox.apiserver.status import PageNotFound, Refused
from onebox.apiserver.storage.records import Key, Record

REGISTRY = Registry(builtin_resources(BuiltinSchemas(), CRD))


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/api/v1/pods", ("pods", "", "", "")),
        ("/api/v1/namespaces/ns/pods", ("pods", "ns", "", "")),
        ("/api/v1/namespaces/ns/pods/p/log", ("pods", "ns", "p", "log")),
        ("/api/v1/namespaces", ("namespaces", "", "", "")),
        ("/api/v1/namespaces/ns", ("namespaces", "", "ns", "")),
        ("/api/v1/namespaces/ns/status", ("namespaces", "", "ns", "status")),
        ("/api/v1/namespaces/ns/finalize", ("namespaces", "", "ns", "finalize")),
        ("/apis/apps/v1/namespaces/ns/deployments/d/scale", ("deployments.apps", "ns", "d", "scale")),
    ],
)
def test_paths_lead_to_kinds_and_objects(path: str, wanted: tuple[str, str, str, str]) -> None:
    target = parse_target(path, REGISTRY)
    assert (target.resource.key, target.namespace, target.name, target.subresource) == wanted


@pytest.mark.parametrize(
    "path",
    [
        "/api/v2/pods",
        "/apis/apps/v1/pods",
        "/api/v1/pods/p",
        "/api/v1/namespaces/ns/nodes",
        "/api/v1/namespaces/ns/pods/p/log/more",
        "/other",
    ],
)
def test_other_paths_lead_nowhere(path: str) -> None:
    with pytest.raises(PageNotFound):
        parse_target(path, REGISTRY)


def _record(name: str = "a", namespace: str = "ns", **labels: str) -> Record:
    return Record(Key("pods", namespace, name), 1, b"", labels, {"status.phase": "Running"})


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ("app=x", True),
        ("app==x", True),
        ("app!=x", False),
        ("other!=x", True),
        ("app in (x, y)", True),
        ("app in (y)", False),
        ("app notin (y)", True),
        ("app notin (x),tier", False),
        ("other notin (x)", True),
        ("app", True),
        ("!app", False),
        ("!other,app=x", True),
        ("count>2", True),
        ("count<2", False),
        ("app>2", False),
        ("a.b/c-d_e=f.g", False),
        ("app=", False),
    ],
)
def test_label_selectors_select(selector: str, matches: bool) -> None:
    chosen = Selector(parse_labels(selector))
    assert chosen.matches(_record(app="x", tier="front", count="3")) is matches


@pytest.mark.parametrize("selector", ["a===b", "a in", "a in (b", "a b", ",", "a=b,", "(a)", "a>b"])
def test_broken_label_selectors_are_refused(selector: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_labels(selector)
    assert refused.value.code == 400


def test_field_selectors_select_by_what_the_kind_offers() -> None:
    known = ("metadata.name", "metadata.namespace", "status.phase")
    assert Selector(fields=parse_fields("status.phase=Running,metadata.name!=b", known)).matches(_record())
    assert not Selector(fields=parse_fields("metadata.namespace=other", known)).matches(_record())
    for broken in ("spec.x=1", "status.phase"):
        with pytest.raises(Refused):
            parse_fields(broken, known)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("application/json", Form.OBJECT),
        ("", Form.OBJECT),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Form.TABLE),
        ("application/json, application/json;as=Table;v=v1;g=meta.k8s.io", Form.OBJECT),
        ("application/vnd.kubernetes.protobuf;as=Table,application/json", Form.OBJECT),
        ("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", Form.METADATA),
    ],
)
def test_the_first_form_that_is_understood_wins(accept: str, form: Form) -> None:
    assert parse_form(accept) is form


@pytest.mark.parametrize("text", ["true", "True", "1", "", "yes", "false", "False", "0", None])
def test_a_flag_is_read_as_kube_apiserver_reads_it(text: str | None) -> None:
    query = {"watch": text} if text is not None else {}
    assert parse_flag(query, "watch") is (text in ("true", "True", "1", "", "yes"))


def test_write_options_are_checked() -> None:
    options = parse_write_options("CreateOptions", {"dryRun": "All", "fieldValidation": "Strict"}, "kubectl/v1.32")
    assert (options.manager, options.dry_run, options.validation) == ("kubectl", True, "Strict")
    for query in ({"dryRun": "Some"}, {"fieldValidation": "Maybe"}, {"force": "true"}, {"fieldManager": "x" * 129}):
        with pytest.raises(Refused) as refused:
            parse_write_options("PatchOptions", query, "")
        assert refused.value.code == 422


def test_delete_options_come_from_query_and_body() -> None:
    options = parse_delete_options({"gracePeriodSeconds": "5"}, {"propagationPolicy": "Foreground"})
    assert (options.grace_s, options.policy) == (5, "Foreground")
    assert parse_delete_options({}, {"orphanDependents": True}).policy == "Orphan"
    with pytest.raises(Refused):
        parse_delete_options({"gracePeriodSeconds": "soon"}, {})


def _records(*names: str) -> list[Record]:
    return [_record(name) for name in names]


def test_pages_show_one_moment_even_while_things_change() -> None:
    pages = Pages()
    first = pages.first("pods", _records("a", "b", "c", "d", "e"), 7, 2)
    assert [record.key.name for record in first.records] == ["a", "b"]
    assert first.remaining == 3
    second = pages.next("pods", first.token, _records("x"), 9, 2)
    assert ([record.key.name for record in second.records], second.revision) == (["c", "d"], 7)
    third = pages.next("pods", second.token, _records("x"), 9, 2)
    assert ([record.key.name for record in third.records], third.token) == (["e"], "")


def test_a_forgotten_page_is_expired_with_a_way_to_go_on() -> None:
    token = Pages().first("pods", _records("a", "b", "c"), 7, 1).token
    pages = Pages()
    with pytest.raises(Refused) as refused:
        pages.next("pods", token, _records("a", "b", "c", "d"), 9, 1)
    assert (refused.value.code, refused.value.reason) == (410, "Expired")
    page = pages.next("pods", refused.value.continue_token, _records("a", "b", "c", "d"), 9, 10)
    assert [record.key.name for record in page.records] == ["b", "c", "d"]


@pytest.mark.parametrize("token", ["abc", "!!!", "e30", "W10"])
def test_a_broken_token_is_refused(token: str) -> None:
    with pytest.raises(Refused) as refused:
        Pages().next("pods", token, [], 1, 1)
    assert refused.value.code == 400


def test_versions_are_ranked_as_kubernetes_does() -> None:
    ranked = sorted(["v1alpha1", "v2", "other", "v1", "v1beta2", "v1beta1"], key=version_rank, reverse=True)
    assert ranked == ["v2", "v1", "v1beta2", "v1beta1", "v1alpha1", "other"]


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1), ("500m", 0.5), ("1Gi", 2**30), ("1k", 1000), ("1e3", 1000), ("0.5", 0.5), ("1E", 10**18), (".5", 0.5)],
)
def test_quantities_are_numbers(text: str, number: float) -> None:
    assert quantity_or_none(text) == pytest.approx(number)


@pytest.mark.parametrize("text", ["", "one", "1X", "m", "1 Gi", None, True, "--1"])
def test_other_texts_are_no_quantities(text: object) -> None:
    assert quantity_or_none(text) is None
