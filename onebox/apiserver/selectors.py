"""Label and field selectors: parsed once a request, then asked of many objects. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from onebox.apiserver.status import bad_request
from onebox.apiserver.storage.records import Record

_TOKEN = re.compile(r"\s*(?:(!=|==|=|!|,|\(|\)|>|<)|([^\s,()=!<>]+))")
Requirement = Callable[[Mapping[str, str]], bool]


@dataclass(frozen=True, slots=True)
class Selector:
    """What a request wants to see of a collection."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[tuple[str, str, bool], ...] = ()
    """(field, value, whether it must be equal)."""

    @property
    def everything(self) -> bool:
        return not self.labels and not self.fields

    def matches(self, record: Record) -> bool:
        """Whether an object is selected."""
        for name, value, equal in self.fields:
            if (_field(record, name) == value) is not equal:
                return False
        return all(requirement(record.labels) for requirement in self.labels)


def _field(record: Record, name: str) -> str:
    if name == "metadata.name":
        return record.key.name
    if name == "metadata.namespace":
        return record.key.namespace
    return record.fields.get(name, "")


def parse_labels(text: str) -> tuple[Requirement, ...]:
    """The requirements of a label selector; Refused (400) in kube-apiserver's words where it is none."""
    return _LabelParser(_tokens(text)).parse() if text.strip() else ()


def parse_fields(text: str, known: tuple[str, ...]) -> tuple[tuple[str, str, bool], ...]:
    """The terms of a field selector; `known` are the fields that the kind can be selected by."""
    terms = []
    for term in text.split(","):
        if not term.strip():
            continue
        match = re.fullmatch(r"\s*([^=!]+?)\s*(!=|==|=)\s*(.*?)\s*", term)
        if match is None:
            raise bad_request(f"invalid selector: '{term}'; can't understand '{term}'")
        name, operator, value = match.groups()
        if name not in known:
            only = ", ".join(f'"{field}"' for field in known)
            raise bad_request(f'"{name}" is not a known field selector: only {only}')
        terms.append((name, value, operator != "!="))
    return tuple(terms)


def _tokens(text: str) -> list[str]:
    tokens, position = [], 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise bad_request(f"unable to parse requirement: found '{text[position:]}', expected: identifier")
        tokens.append(match[1] or match[2])
        position = match.end()
    return tokens


class _LabelParser:
    """Recursive descent over `key`, `!key`, `key=value`, `key!=value`, `key in (a,b)`, `key notin (a,b)`, `key>1`, `key<1`."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._position = 0

    def parse(self) -> tuple[Requirement, ...]:
        requirements = [self._requirement()]
        while self._position < len(self._tokens):
            self._expect(",")
            requirements.append(self._requirement())
        return tuple(requirements)

    def _requirement(self) -> Requirement:
        if self._peek() == "!":
            self._position += 1
            absent = self._identifier()
            return lambda labels: absent not in labels
        key = self._identifier()
        operator = self._peek()
        if operator in ("", ","):
            return lambda labels: key in labels
        self._position += 1
        match operator:
            case "=" | "==":
                value = self._value()
                return lambda labels: labels.get(key) == value
            case "!=":
                value = self._value()
                return lambda labels: labels.get(key) != value
            case "in":
                values = self._values()
                return lambda labels: labels.get(key) in values
            case "notin":
                values = self._values()
                return lambda labels: key not in labels or labels[key] not in values
            case ">" | "<":
                return self._comparison(key, operator)
            case _:
                raise bad_request(
                    f"unable to parse requirement: found '{operator}', expected: in, notin, =, ==, !=, gt, lt"
                )

    def _comparison(self, key: str, operator: str) -> Requirement:
        value = self._identifier()
        if not re.fullmatch(r"-?\d+", value):
            raise bad_request(
                f"values[0][{key}]: Invalid value: \"{value}\": for 'Gt', 'Lt' operators, the value must be an integer"
            )
        limit, greater = int(value), operator == ">"

        def compare(labels: Mapping[str, str]) -> bool:
            found = labels.get(key, "")
            return bool(re.fullmatch(r"-?\d+", found)) and (int(found) > limit if greater else int(found) < limit)

        return compare

    def _values(self) -> frozenset[str]:
        self._expect("(")
        values = {self._value()}
        while self._peek() == ",":
            self._position += 1
            values.add(self._value())
        self._expect(")")
        return frozenset(values)

    def _value(self) -> str:
        return "" if self._peek() in ("", ",", ")") else self._identifier()

    def _identifier(self) -> str:
        token = self._peek()
        if not token or not re.match(r"[A-Za-z0-9._/-]", token):
            raise bad_request(f"unable to parse requirement: found '{token}', expected: identifier")
        self._position += 1
        return token

    def _expect(self, wanted: str) -> None:
        token = self._peek()
        if token != wanted:
            raise bad_request(f"unable to parse requirement: found '{token}', expected: '{wanted}'")
        self._position += 1

    def _peek(self) -> str:
        return self._tokens[self._position] if self._position < len(self._tokens) else ""
