"""The type of parsed JSON, as Kubernetes objects travel at the edges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

JsonObject: TypeAlias = dict[str, Any]
"""A JSON object that its holder may change."""

JsonView: TypeAlias = Mapping[str, Any]
"""A JSON object that its holder only reads, as informers hand them out."""
