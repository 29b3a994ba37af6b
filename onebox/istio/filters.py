"""What routes ask of Envoy's filters: faults, CORS, mirrors (pure)."""

from __future__ import annotations

from controller.api.istio import CorsPolicy, Destination, Fault, HttpRoute, Percent
from controller.base.errors import UserError
from onebox.istio.matches import build_string_match
from onebox.istio.registry import Registry, resolve_destination
from onebox.istio.retries import build_duration
from onebox.istio.xds import CORS_FILTER, CORS_POLICY, FAULT, FAULT_FILTER, Message, any_of
from onebox.knative.duration import parse_duration_s

_PER_MILLION = 10_000
"""Millionths in a percent: Envoy's finest fraction, so that 0.01 % is still said exactly."""
_GRPC_CODES = {
    name: code
    for code, name in enumerate(
        (
            *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
            *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE"),
            *("UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
        )
    )
}
_IGNORE = "IGNORE"


def build_filter_overrides(route: HttpRoute) -> Message:
    """`typed_per_filter_config` of a route; empty where it asks nothing of the filters."""
    overrides: Message = {}
    if route.fault is not None and (route.fault.delay or route.fault.abort):
        overrides[FAULT_FILTER] = any_of(FAULT, _fault(route.fault))
    if route.corsPolicy is not None:
        overrides[CORS_FILTER] = any_of(CORS_POLICY, _cors(route.corsPolicy))
    return overrides


def build_mirrors(route: HttpRoute, namespace: str, registry: Registry, *, gateway_port: int) -> list[Message]:
    """Where copies of requests go. They keep their Host, as Istio has it; Envoy's default would append `-shadow`."""
    wanted: list[tuple[Destination, Percent | None]] = []
    if route.mirror is not None:
        old = Percent(value=route.mirrorPercent) if route.mirrorPercent is not None else None
        wanted.append((route.mirror, route.mirrorPercentage or old))
    wanted += [(mirror.destination, mirror.percentage) for mirror in route.mirrors]
    return [
        {
            "cluster": resolve_destination(destination, namespace, registry, gateway_port=gateway_port).name,
            "runtime_fraction": {"default_value": _fraction(percentage)},
            "disable_shadow_host_suffix_append": True,
        }
        for destination, percentage in wanted
        if percentage is None or percentage.value > 0
    ]


def _fraction(percentage: Percent | None) -> Message:
    value = 100.0 if percentage is None else percentage.value
    if not 0 <= value <= 100:
        raise UserError("InvalidPercentage", f"percentage.value = {value:g}, must be in [0, 100]")
    return {"numerator": round(value * _PER_MILLION), "denominator": "MILLION"}


def _fault(fault: Fault) -> Message:
    built: Message = {}
    if fault.delay is not None:
        built["delay"] = {
            "fixed_delay": build_duration("fault.delay.fixedDelay", fault.delay.fixedDelay),
            "percentage": _fraction(fault.delay.percentage or Percent(value=fault.delay.percent)),
        }
    if fault.abort is not None:
        # Without a percentage Istio aborts nothing.
        percentage = {"percentage": _fraction(fault.abort.percentage or Percent(value=0))}
        if fault.abort.grpcStatus:
            built["abort"] = {"grpc_status": _grpc_code(fault.abort.grpcStatus), **percentage}
        else:
            built["abort"] = {"http_status": _abort_status(fault.abort.httpStatus), **percentage}
    return built


def _abort_status(status: int | None) -> int:
    if status is None or not 200 <= status <= 599:
        raise UserError("InvalidFault", f"fault.abort.httpStatus = {status}, must be in [200, 599]")
    return status


def _grpc_code(status: str) -> int:
    code = int(status) if status.isdecimal() else _GRPC_CODES.get(status.upper())
    if code is None:
        raise UserError("InvalidFault", f"fault.abort.grpcStatus = {status!r}, must be one of {', '.join(_GRPC_CODES)}")
    return code


def _cors(cors: CorsPolicy) -> Message:
    origins = [build_string_match(origin) for origin in cors.allowOrigins]
    # The deprecated form has exact origins only, and * for all.
    origins += [{"safe_regex": {"regex": ".*"}} if origin == "*" else {"exact": origin} for origin in cors.allowOrigin]
    built: Message = {
        "allow_origin_string_match": origins,
        "filter_enabled": {"default_value": {"numerator": 100, "denominator": "HUNDRED"}},
        "forward_not_matching_preflights": cors.unmatchedPreflights != _IGNORE,
    }
    for name, values in (
        ("allow_methods", cors.allowMethods),
        ("allow_headers", cors.allowHeaders),
        ("expose_headers", cors.exposeHeaders),
    ):
        if values:
            built[name] = ",".join(values)
    if cors.maxAge:
        build_duration("corsPolicy.maxAge", cors.maxAge)
        built["max_age"] = str(int(parse_duration_s(cors.maxAge)))
    if cors.allowCredentials is not None:
        built["allow_credentials"] = cors.allowCredentials
    return built
