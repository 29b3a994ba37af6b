"""Structural schemas of Kubernetes kinds, compiled once: validate, prune, default, find unknown fields.

`StructuralSchema.compile(openAPIV3Schema)` is all that callers need; `Node` is what server-side apply and the strategic
merge walk along. Nothing here knows HTTP, storage or a kind.
"""

from controller.api.structural.node import Node, NodePool, Shape
from controller.api.structural.schema import StructuralSchema

__all__ = ["Node", "NodePool", "Shape", "StructuralSchema"]
