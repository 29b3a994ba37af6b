"""When Envoy repeats a request (pure).

Istio repeats what surely did no harm, twice, unless a VirtualService says otherwise. Knative's VirtualServices switch that
off; here, one kind of failure of a revision's endpoints is repeated all the same: those where no byte of the request left
(docs/decisions/0007-retries-before-the-request.md).
"""

from __future__ import annotations

from controller.api.istio import Retries
from controller.base.errors import UserError
from onebox.istio.xds import PREVIOUS_HOSTS, Message, any_of, render_duration
from onebox.knative.duration import parse_duration_s

ISTIO_RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled,reset-before-request"
"""Istio's default conditions. None repeats an answer that the service gave over HTTP/1.1."""
ISTIO_ATTEMPTS = 2
UNSENT_RETRY_ON = "connect-failure,refused-stream,reset-before-request"
"""The conditions under which a service cannot have seen any of the request."""
UNSENT_ATTEMPTS = 60
"""Repetitions of a request that found no open port. With Envoy's back-off (25 ms doubling to 250 ms, each drawn between nothing
and that) they last 7 s: an activator that was killed is back after 1 s, on a machine with 20 processes for 2 cores after 4 s,
and new endpoints are in force after 3 ms and 0.5 s."""
_OTHER_HOST_ATTEMPTS = 5
"""How often Envoy draws again when it drew an endpoint that failed before (Istio's number)."""
_CODES = range(100, 600)


def build_retry_policy(retries: Retries | None, *, revision: bool) -> Message | None:
    """Envoy's RetryPolicy; None for no repetition. `revision`: every destination is a revision of Knative's."""
    if retries is None:
        return _policy(ISTIO_RETRY_ON, ISTIO_ATTEMPTS)
    if retries.attempts <= 0:
        # Short, since a table of 500 services has it 2,000 times: with so many attempts another endpoint is drawn anyway.
        return {"retry_on": UNSENT_RETRY_ON, "num_retries": UNSENT_ATTEMPTS} if revision else None
    policy = _policy(retries.retryOn or ISTIO_RETRY_ON, retries.attempts)
    if retries.perTryTimeout:
        policy["per_try_timeout"] = build_duration("retries.perTryTimeout", retries.perTryTimeout)
    if retries.backoff:
        policy["retry_back_off"] = {"base_interval": build_duration("retries.backoff", retries.backoff)}
    if retries.retryIgnorePreviousHosts is False:
        policy.pop("retry_host_predicate")
    return policy


def build_duration(field: str, text: str) -> str:
    """A duration of a VirtualService as Envoy writes it; UserError where it is none or negative."""
    try:
        seconds = parse_duration_s(text)
    except ValueError:
        raise UserError("InvalidDuration", f'{field} = {text!r}, must be a duration such as "1.5s" or "1h2m"') from None
    if seconds < 0:
        raise UserError("InvalidDuration", f"{field} = {text!r}, must not be negative")
    return render_duration(seconds)


def _policy(retry_on: str, attempts: int) -> Message:
    words = [word.strip() for word in retry_on.split(",") if word.strip()]
    codes = [int(word) for word in words if word.isdecimal() and int(word) in _CODES]
    conditions = [word for word in words if not word.isdecimal()]
    if codes and "retriable-status-codes" not in conditions:
        conditions.append("retriable-status-codes")  # Envoy ignores a bare number among the conditions.
    policy: Message = {
        "retry_on": ",".join(conditions),
        "num_retries": attempts,
        "retry_host_predicate": [
            {"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": any_of(PREVIOUS_HOSTS)}
        ],
        "host_selection_retry_max_attempts": str(_OTHER_HOST_ATTEMPTS),
    }
    return {**policy, "retriable_status_codes": codes} if codes else policy
