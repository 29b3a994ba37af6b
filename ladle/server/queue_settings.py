"""The environment of a queue-proxy, under Knative's names, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ladle.errors import UserError
from ladle.server.drain import QUIET_S


class BadSetting(UserError):
    """An environment variable or flag that cannot be read."""

    reason = "BadSetting"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """What one queue-proxy enforces. Times in seconds; 0 is off."""

    container_concurrency: int = 0
    """Requests at once (CONTAINER_CONCURRENCY); 0 is no limit. Knative allows 0 to 1000."""
    timeout_s: float = 0.0
    """A whole request (REVISION_TIMEOUT_SECONDS); Knative's revisions default to 300."""
    response_start_timeout_s: float = 0.0
    """To the first byte of the answer (REVISION_RESPONSE_START_TIMEOUT_SECONDS)."""
    idle_timeout_s: float = 0.0
    """Between two writes of the answer, and to the first (REVISION_IDLE_TIMEOUT_SECONDS)."""
    drain_quiet_s: float = QUIET_S
    """Without requests, before a drain is over (LADLE_DRAIN_QUIET_S)."""
    pod: str = ""
    """Name in the statistics (SERVING_POD, else POD_NAME)."""
    namespace: str = ""
    revision: str = ""
    readiness_probe: str = ""
    """JSON of the user's probe (SERVING_READINESS_PROBE)."""

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> QueueSettings:
        """Reads Knative's names; BadSetting where a number is none."""
        return cls(
            container_concurrency=int(number(env, "CONTAINER_CONCURRENCY", 0)),
            timeout_s=number(env, "REVISION_TIMEOUT_SECONDS", 0),
            response_start_timeout_s=number(env, "REVISION_RESPONSE_START_TIMEOUT_SECONDS", 0),
            idle_timeout_s=number(env, "REVISION_IDLE_TIMEOUT_SECONDS", 0),
            drain_quiet_s=number(env, "LADLE_DRAIN_QUIET_S", QUIET_S),
            pod=env.get("SERVING_POD") or env.get("POD_NAME", ""),
            namespace=env.get("SERVING_NAMESPACE") or env.get("POD_NAMESPACE", ""),
            revision=env.get("SERVING_REVISION", ""),
            readiness_probe=env.get("SERVING_READINESS_PROBE", ""),
        )

    @property
    def first_byte_limit_s(self) -> float:
        """The strictest of the limits that hold before the first byte; 0 where none does."""
        limits = (self.timeout_s, self.response_start_timeout_s, self.idle_timeout_s)
        return min((limit for limit in limits if limit > 0), default=0.0)


_FALSE = frozenset({"false", "0", "no", "off"})


def flag(env: Mapping[str, str], name: str, *, default: bool) -> bool:
    """Whether a variable says yes; anything but false, 0, no and off does."""
    value = env.get(name, "").strip().lower()
    return value not in _FALSE if value else default


def number(env: Mapping[str, str], name: str, default: float) -> float:
    """The non-negative number in a variable; `default` where it is missing or empty."""
    value = env.get(name, "").strip()
    if not value:
        return default
    try:
        parsed = float(value)
    except ValueError:
        parsed = -1.0
    if not 0 <= parsed < float("inf"):
        raise BadSetting(f"{name} = {value}, must be a number of at least 0")
    return parsed
