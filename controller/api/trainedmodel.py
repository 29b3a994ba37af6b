"""serving.kserve.io/v1alpha1 TrainedModel: one of the models that a server of several models loads while it runs."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from controller.api.meta import ApiModel, Condition, Resource

KIND: Final = "TrainedModel"


class TrainedModelSource(ApiModel):
    storageUri: str = ""
    framework: str = ""
    memory: str | float = ""
    """A quantity: what the model takes of its server's memory."""


class TrainedModelSpec(ApiModel):
    inferenceService: str = ""
    """The service whose server loads the model."""
    model: TrainedModelSource = Field(default_factory=TrainedModelSource)


class TrainedModelStatus(ApiModel):
    conditions: list[Condition] = Field(default_factory=list)


class TrainedModel(Resource):
    spec: TrainedModelSpec = Field(default_factory=TrainedModelSpec)
    status: TrainedModelStatus = Field(default_factory=TrainedModelStatus)
