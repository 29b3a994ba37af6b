"""What all kinds share: metadata, owner references, conditions; and how a model is read from and written to JSON.

Fields keep Kubernetes' camelCase names. Unknown fields are kept as they came: strictness is the API server's, which
knows the whole schema; a controller must never lose a field that a newer server added.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from controller.base.json import JsonObject, JsonView


class ApiModel(BaseModel):
    """An immutable piece of a Kubernetes object."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)

    @classmethod
    def parse(cls, value: JsonView) -> Self:
        """The typed form of parsed JSON; pydantic's ValidationError where a field has the wrong type."""
        return cls.model_validate(value)

    def to_json(self) -> JsonObject:
        """Plain JSON with just the fields that were set, so that what was read is written back unchanged."""
        dumped: JsonObject = self.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return dumped

    def replace(self, **changes: Any) -> Self:
        """A copy with these fields set."""
        return self.model_copy(update=changes)


class OwnerReference(ApiModel):
    apiVersion: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None
    blockOwnerDeletion: bool | None = None


class ObjectMeta(ApiModel):
    name: str = ""
    generateName: str | None = None
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resourceVersion: str = ""
    creationTimestamp: str | None = None
    deletionTimestamp: str | None = None
    deletionGracePeriodSeconds: int | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    finalizers: list[str] = Field(default_factory=list)
    ownerReferences: list[OwnerReference] = Field(default_factory=list)


class Condition(ApiModel):
    """A Knative-style condition; `status` is True, False or Unknown; `severity` "" (error), Warning or Info."""

    type: str
    status: str = "Unknown"
    severity: str | None = None
    reason: str | None = None
    message: str | None = None
    lastTransitionTime: str | None = None


class Resource(ApiModel):
    """A whole object of some kind."""

    apiVersion: str = ""
    kind: str = ""
    metadata: ObjectMeta = Field(default_factory=ObjectMeta)


def owner_reference(owner: Resource) -> OwnerReference:
    """The controlling owner reference that a child of `owner` carries."""
    return OwnerReference(
        apiVersion=owner.apiVersion,
        kind=owner.kind,
        name=owner.metadata.name,
        uid=owner.metadata.uid,
        controller=True,
        blockOwnerDeletion=True,
    )


def controller_of(meta: ObjectMeta) -> OwnerReference | None:
    """The owner that controls this object, if any."""
    return next((owner for owner in meta.ownerReferences if owner.controller), None)
