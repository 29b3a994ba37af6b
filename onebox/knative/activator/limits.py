"""How long, and how much: the bounds of the activator, each with its origin."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a revision does not say itself; 503 `pending request queue full` beyond the first two."""

    waiting_max: int = 10_000
    """Requests that may wait for one revision: the depth that Knative's activator declares for its queue."""
    held_bytes_max: int = 64 * 2**20
    """Bytes of bodies that may wait for one revision. A guess: a laptop can spare it for several revisions."""
    header_s: float = 30.0
    """From a request's first byte to the end of its head: 408 beyond. A guess; nginx allows 60 s."""
    keep_alive_s: float = 3900.0
    """Silence between two requests of a client. Longer than Envoy keeps idle connections (1 h): a connection that we close
    in the moment in which Envoy uses it would be a 503."""
    linger_s: float = 2.0
    """After an answer to a request of which the rest is not wanted: how long that rest is read and dropped, so that the
    client sees the answer and not a reset. A guess; nginx allows 5 s."""
    body_held_bytes: int = 64 * 1024
    """What is read of a body before a pod takes it; beyond, the client's socket is paused. One read of a socket."""
    connect_s: float = 1.0
    """Longest connecting to a pod of this machine. A guess: it takes 0.1 ms, unless the accept queue is full."""
    pod_idle_s: float = 30.0
    """Silence after which a connection to a pod is closed; shorter than servers keep them (KServe: 65 s)."""
    pod_idle_connections_max: int = 100
    """Idle connections kept to each pod; Knative's."""
    connect_attempts_max: int = 10
    """Pods tried for one request while no connection could be made at all. A guess."""
    drain_s: float = 30.0
    """After SIGTERM, how long requests may take to end. A guess: as Kubernetes' terminationGracePeriodSeconds."""
    sweep_s: float = 1.0
    """How often idle and slow connections are looked for; the limits above are many times longer."""
