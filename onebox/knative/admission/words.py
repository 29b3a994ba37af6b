"""Names as Kubernetes checks them: DNS labels and qualified names."""

from __future__ import annotations

import re

NAME_LENGTH_MAX = 63
_SUBDOMAIN_LENGTH_MAX = 253
_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_DNS_1123 = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(rf"{_DNS_1123.pattern}(\.{_DNS_1123.pattern})*")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")

DNS_1035_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)


def dns_1035_problem(name: str) -> str:
    """What is wrong with `name` as a DNS-1035 label; empty where nothing is."""
    if len(name) > NAME_LENGTH_MAX:
        return f"must be no more than {NAME_LENGTH_MAX} characters"
    return "" if _DNS_1035.fullmatch(name) else DNS_1035_RULE


def is_dns_1123_label(name: str) -> bool:
    return len(name) <= NAME_LENGTH_MAX and _DNS_1123.fullmatch(name) is not None


def is_subdomain(name: str) -> bool:
    return len(name) <= _SUBDOMAIN_LENGTH_MAX and _SUBDOMAIN.fullmatch(name) is not None


def is_qualified_name(name: str) -> bool:
    """A name with or without a DNS prefix and a slash, as label keys are."""
    prefix, slash, rest = name.rpartition("/")
    return (
        (not slash or is_subdomain(prefix)) and len(rest) <= NAME_LENGTH_MAX and _QUALIFIED.fullmatch(rest) is not None
    )
