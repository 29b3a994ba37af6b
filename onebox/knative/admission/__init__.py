"""Admission of Knative's Service, Configuration, Revision and Route: Knative's defaults and validation (pure).

The schema went before: types are right and unknown fields are gone. `admit_*` judge by the settings that onebox ships
with; `ServingAdmission` by settings that are read at each request, such as the config maps that are stored now.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache

from controller.api.admission import AdmissionRequest, Admit, Operation
from controller.base.errors import FieldError, Invalid
from controller.base.json import JsonObject, JsonView
from controller.base.names import CONFIGURATION_LABEL, KSVC_LABEL
from controller.kube.resources import KNATIVE_SERVICES
from onebox.knative.admission import metadata
from onebox.knative.admission.revisions import (
    check_immutable,
    check_name_change,
    check_revision_spec,
    check_scaling,
    check_template,
    default_revision_spec,
)
from onebox.knative.admission.traffic import check_traffic, default_traffic
from onebox.knative.settings import ServingSettings, shipped_settings

__all__ = ["ServingAdmission", "admit_configuration", "admit_knative_service", "admit_revision", "admit_route"]


class ServingAdmission:
    """The four decisions by the settings of the moment."""

    def __init__(self, settings: Callable[[], ServingSettings]) -> None:
        self._settings = settings

    def admits(self) -> Mapping[tuple[str, str], Admit]:
        """The decisions by (group, kind)."""
        return {
            (KNATIVE_SERVICES.group, "Service"): self.service,
            (KNATIVE_SERVICES.group, "Configuration"): self.configuration,
            (KNATIVE_SERVICES.group, "Revision"): self.revision,
            (KNATIVE_SERVICES.group, "Route"): self.route,
        }

    def service(self, request: AdmissionRequest) -> JsonObject:
        if not _changes_spec(request):
            return dict(request.object)
        settings, obj = self._settings(), _copy(request)
        _default_template(obj, request, settings)
        default_traffic(obj["spec"], of_service=True)
        metadata.set_user_info(obj, request)
        _refuse(
            metadata.check_names(obj),
            metadata.check_no_autoscaling_annotations(obj),
            metadata.check_rollout_duration(obj),
            check_template(obj["spec"]["template"], obj["metadata"], settings),
            check_traffic(obj["spec"], of_service=True),
            _check_update(obj, request, owned_too=True),
        )
        return obj

    def configuration(self, request: AdmissionRequest) -> JsonObject:
        if not _changes_spec(request):
            return dict(request.object)
        settings, obj = self._settings(), _copy(request)
        _default_template(obj, request, settings)
        if not metadata.is_owned(obj):
            metadata.set_user_info(obj, request)
        _refuse(
            metadata.check_names(obj),
            metadata.check_no_autoscaling_annotations(obj),
            metadata.check_owner_label(obj, KSVC_LABEL, "Service"),
            check_template(obj["spec"]["template"], obj["metadata"], settings),
            _check_update(obj, request, owned_too=False),
        )
        return obj

    def revision(self, request: AdmissionRequest) -> JsonObject:
        if not _changes_spec(request):
            return dict(request.object)
        settings, obj = self._settings(), _copy(request)
        path = "metadata.annotations"
        found = [
            metadata.check_names(obj),
            check_scaling(metadata.annotations_of(obj), path, settings.scale),
            metadata.check_owner_label(obj, CONFIGURATION_LABEL, "Configuration"),
        ]
        if request.old is not None:
            found.append(check_immutable(obj["spec"], request.old.get("spec") or {}))
        else:
            default_revision_spec(obj["spec"], {}, settings.defaults, creating=True)
            found.append(check_revision_spec(obj["spec"], "spec", settings))
        _refuse(*found)
        return obj

    def route(self, request: AdmissionRequest) -> JsonObject:
        if not _changes_spec(request):
            return dict(request.object)
        obj = _copy(request)
        default_traffic(obj["spec"], of_service=False)
        owned = metadata.is_owned(obj)
        if not owned:
            metadata.set_user_info(obj, request)
        found = [
            metadata.check_names(obj),
            metadata.check_no_autoscaling_annotations(obj),
            metadata.check_owner_label(obj, KSVC_LABEL, "Service"),
            metadata.check_rollout_duration(obj),
            check_traffic(obj["spec"], of_service=False),
        ]
        if request.old is not None and not owned:
            found.append(metadata.check_creator_and_modifier(obj, request.old))
        _refuse(*found)
        return obj


_shipped = ServingAdmission(lru_cache(maxsize=1)(shipped_settings))
admit_knative_service: Admit = _shipped.service
admit_configuration: Admit = _shipped.configuration
admit_revision: Admit = _shipped.revision
admit_route: Admit = _shipped.route


def _changes_spec(request: AdmissionRequest) -> bool:
    # A status that a controller writes is not refused for a spec that was stored under older settings.
    return request.operation is not Operation.DELETE and request.subresource != "status"


def _copy(request: AdmissionRequest) -> JsonObject:
    obj: JsonObject = copy.deepcopy(dict(request.object))
    obj.setdefault("metadata", {})
    if obj.get("spec") is None:
        obj["spec"] = {}
    return obj


def _default_template(obj: JsonObject, request: AdmissionRequest, settings: ServingSettings) -> None:
    template = _template(obj)
    name = template["metadata"].get("name")
    old = (request.old or {}).get("spec", {}).get("template", {})
    filled = copy.deepcopy(template)
    creating = request.operation is Operation.CREATE
    default_revision_spec(filled["spec"], obj["metadata"], settings.defaults, creating=creating)
    # New defaults would count as a change of a revision whose name says that nothing changed. The same defaults once more
    # are none: who applies a manifest again, for example with other traffic, does not write them.
    if not name or name != (old.get("metadata") or {}).get("name") or filled == old:
        obj["spec"]["template"] = filled


def _template(obj: JsonObject) -> JsonObject:
    template: JsonObject = obj["spec"].setdefault("template", {})
    for field in ("metadata", "spec"):
        if template.get(field) is None:
            template[field] = {}
    return template


def _check_update(obj: JsonView, request: AdmissionRequest, *, owned_too: bool) -> Iterator[FieldError]:
    if request.old is None:
        return
    if owned_too or not metadata.is_owned(obj):
        yield from metadata.check_creator_and_modifier(obj, request.old)
    old_template = (request.old.get("spec") or {}).get("template") or {}
    yield from check_name_change(obj["spec"]["template"], old_template)


def _refuse(*found: Iterable[FieldError]) -> None:
    errors = [error for group in found for error in group]
    if errors:
        raise Invalid(errors)
