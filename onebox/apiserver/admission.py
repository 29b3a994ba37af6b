"""Which kinds have an admission of their own, and how to find it; Knative's and KServe's go by the stored config maps.

The modules are imported late: they bring pydantic models along, and nobody should wait for those before the server answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import orjson

from controller.api.admission import Admit
from controller.base.errors import UserError
from controller.base.logging import get_logger
from onebox.apiserver.storage.records import Key
from onebox.apiserver.storage.store import Store

if TYPE_CHECKING:
    from controller.api.admission import AdmissionRequest
    from controller.api.defaulting import Defaults
    from controller.base.json import JsonObject
    from onebox.knative.settings import ServingSettings

log = get_logger(__name__)

_KNATIVE = "serving.knative.dev"
_KSERVE = "serving.kserve.io"
_CONFIG_NAMESPACE = "knative-serving"
_KSERVE_NAMESPACE = "kserve"


class Admissions:
    """The admissions of all kinds that have one, by the config maps that are stored at the moment."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._admits: Mapping[tuple[str, str], Admit] | None = None
        self._settings_at: tuple[int, ...] | None = None
        self._settings: ServingSettings | None = None
        self._defaults_at: int | None = None
        self._defaults: Defaults | None = None

    def of(self, group: str, kind: str) -> Admit | None:
        """The admission of a kind; None where its schema is all there is."""
        if group not in (_KNATIVE, _KSERVE):
            return None
        return self.load().get((group, kind))

    def load(self) -> Mapping[tuple[str, str], Admit]:
        """Imports what there is. A server does so in a thread once it is ready, for it takes a third of a second."""
        if self._admits is None:
            self._admits = _collect(self._serving_settings, self._kserve_defaults)
        return self._admits

    def _serving_settings(self) -> ServingSettings:
        """Knative's settings as stored, read again when a config map has changed; the last good ones where one is broken.

        Before anything is installed they are those that will be.
        """
        from onebox.knative.settings import ServingSettings, parse_settings, shipped_settings

        records = self._store.select("configmaps", _CONFIG_NAMESPACE)
        version = tuple(record.revision for record in records)
        if self._settings is None or version != self._settings_at:
            maps = {record.key.name: orjson.loads(record.data).get("data") or {} for record in records}
            try:
                self._settings = parse_settings(maps) if maps else shipped_settings()
            except UserError as error:
                log.warning("config map ignored", namespace=_CONFIG_NAMESPACE, error=error.message)
                self._settings = self._settings or ServingSettings()
            self._settings_at = version
        return self._settings

    def _kserve_defaults(self) -> Defaults:
        """What inferenceservice-config says of defaults; the last good ones where it is broken, KServe's before it is there."""
        from controller.api.config_text import CONFIG_NAME, parse_defaults
        from controller.api.defaulting import SHIPPED

        record = self._store.latest(Key("configmaps", _KSERVE_NAMESPACE, CONFIG_NAME))
        revision = record.revision if record is not None else None
        if self._defaults is None or revision != self._defaults_at:
            data = (orjson.loads(record.data).get("data") or {}) if record is not None else {}
            try:
                self._defaults = parse_defaults(data)
            except UserError as error:
                log.warning("config map ignored", namespace=_KSERVE_NAMESPACE, error=error.message)
                self._defaults = self._defaults or SHIPPED
            self._defaults_at = revision
        return self._defaults


def _collect(
    settings: Callable[[], ServingSettings], defaults: Callable[[], Defaults]
) -> Mapping[tuple[str, str], Admit]:
    from controller.api.validation import inference_service_admission
    from controller.api.validation_graphs import admit_inference_graph
    from controller.api.validation_runtimes import serving_runtime_admission
    from controller.api.validation_trained_models import admit_trained_model
    from onebox.knative.admission import ServingAdmission

    def admit_inference_service(request: AdmissionRequest) -> JsonObject:
        return inference_service_admission(defaults())(request)

    def admit_serving_runtime(request: AdmissionRequest) -> JsonObject:
        return serving_runtime_admission(defaults())(request)

    return {
        **ServingAdmission(settings).admits(),
        (_KSERVE, "InferenceService"): admit_inference_service,
        (_KSERVE, "ServingRuntime"): admit_serving_runtime,
        (_KSERVE, "ClusterServingRuntime"): admit_serving_runtime,
        (_KSERVE, "InferenceGraph"): admit_inference_graph,
        (_KSERVE, "TrainedModel"): admit_trained_model,
    }
