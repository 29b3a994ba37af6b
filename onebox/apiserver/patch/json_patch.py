"""JSON patch (RFC 6902), by the jsonpatch library."""

from __future__ import annotations

from typing import Any


class BadPatch(Exception):
    """A patch that cannot be applied to this object."""


def json_patch(target: Any, operations: Any) -> Any:
    """A patched copy; BadPatch where an operation is unknown, a path leads nowhere or a test fails."""
    # Imported here: most servers never see one, and it brings jsonpointer along.
    import jsonpatch
    import jsonpointer

    try:
        return jsonpatch.apply_patch(target, operations)
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError, KeyError) as error:
        raise BadPatch(str(error)) from error
