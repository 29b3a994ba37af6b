"""KServe's rule for names of services and graphs: they become host names and Knative Services."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from controller.api.field_errors import invalid
from controller.base.errors import FieldError

NAME: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def validate_service_name(name: str) -> Iterator[FieldError]:
    """What is wrong with the name of an InferenceService or InferenceGraph."""
    if not NAME.fullmatch(name):
        rule = "must consist of lower case alphanumeric characters or '-', start with a letter and end alphanumeric"
        yield invalid("metadata.name", name, f"{rule} ({NAME.pattern})")
