"""What has become of the model: on its way, loaded, or failed and why, read off the newest revision's pods. (pure)

The states and transitions are KServe's (spec/kserve.md 2.10). What differs: a failure names its revision, and is forgotten
with it or once the model is loaded; a service scaled to zero keeps its model's state; images that cannot be had, and servers
that are not ready by Knative's progress deadline, are failures too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from controller.api.core import ContainerStateTerminated, ContainerStatus, Pod
from controller.api.inferenceservice import FailureInfo, ModelCopies, ModelStates, ModelStatus
from controller.api.knative import Service, is_observed, is_ready
from controller.api.meta import Condition
from controller.base.errors import UserError
from controller.inferenceservice.children.storage import INITIALIZER
from controller.inferenceservice.conditions import FALSE
from controller.inferenceservice.runtimes import (
    NO_SUPPORTING_RUNTIME,
    RUNTIME_DISABLED,
    RUNTIME_NOT_RECOGNIZED,
    RUNTIME_UNAVAILABLE,
)

MODEL_LOAD_FAILED: Final = "ModelLoadFailed"
RUNTIME_UNHEALTHY: Final = "RuntimeUnhealthy"
INVALID_PREDICTOR_SPEC: Final = "InvalidPredictorSpec"
INVALID_SPEC: Final = "InvalidSpec"
REVISION_LABEL: Final = "serving.knative.dev/revision"

_SPEC_REASONS: Final = (RUNTIME_NOT_RECOGNIZED, RUNTIME_DISABLED, NO_SUPPORTING_RUNTIME, INVALID_PREDICTOR_SPEC)
_CRASH_LOOP: Final = "CrashLoopBackOff"
_IMAGE_REASONS: Final = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError")
"""Why a container waits in a way that mends itself only if somebody changes something."""
_SIDECAR: Final = "queue-proxy"
_CONFIGURATIONS_READY: Final = "ConfigurationsReady"
_TIMED_OUT: Final = ("timed out", "Initial scale was never achieved")
"""What Knative says of a revision that passed its progress deadline."""
_DEADLINE_ANNOTATION: Final = "serving.knative.dev/progress-deadline"


class State(StrEnum):
    PENDING = "Pending"
    LOADING = "Loading"
    LOADED = "Loaded"
    FAILED = "FailedToLoad"


_TRANSITIONS: Final = {
    State.PENDING: "InProgress",
    State.LOADING: "InProgress",
    State.LOADED: "UpToDate",
    State.FAILED: "BlockedByFailedLoad",
}


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the containers of a pod say; None as state: nothing new."""

    state: State | None
    failure: FailureInfo | None = None


def observe_model(
    before: ModelStatus, live: Service | None, *, pods: Sequence[Pod], uris: Iterable[str], all_ready: bool = True
) -> ModelStatus:
    """The model's status; `pods` are the predictor's, `uris` its sources, which a failure to fetch must name.

    As in KServe a model counts as loaded once all components are ready: before that no request reaches it.
    """
    newest = _newest_first(live, pods)
    copies = _copies(newest)
    seen = _Seen(State.LOADED) if all_ready and _serves_latest(live) else _look(live, newest, tuple(uris))
    state = seen.state
    if state is None:
        if before.states is not None and before.transitionStatus != INVALID_SPEC:
            return before.replace(copies=copies)
        state = State.PENDING
    active = before.states.activeModelState if before.states is not None else ""
    if state is State.LOADED:
        active = State.LOADED.value
    status = {
        "transitionStatus": _TRANSITIONS[state],
        "states": ModelStates(activeModelState=active, targetModelState=state.value),
        "copies": copies,
    }
    failure = _failure_of(live, newest, seen, before.lastFailureInfo, state)
    if failure is not None:
        status["lastFailureInfo"] = failure
    return ModelStatus(**status)


def refuse_model(before: ModelStatus, error: UserError) -> ModelStatus:
    """The model's status where the spec cannot work for `error`, or as it was where the model is not to blame."""
    reasons = {reason: reason for reason in _SPEC_REASONS} | {
        "InvalidStorage": INVALID_PREDICTOR_SPEC,
        RUNTIME_UNAVAILABLE: NO_SUPPORTING_RUNTIME,  # KServe's clients know KServe's words; the condition has ours.
    }
    reason = reasons.get(error.reason)
    if reason is None:
        return before.replace(transitionStatus=before.transitionStatus)  # Set, even if empty: the schema requires it.
    active = before.states.activeModelState if before.states is not None else ""
    return ModelStatus(
        transitionStatus=INVALID_SPEC,
        states=ModelStates(activeModelState=active, targetModelState=State.FAILED.value),
        lastFailureInfo=FailureInfo(reason=reason, message=error.message),
    )


def failed(status: ModelStatus) -> FailureInfo | None:
    """Why the model that is wanted cannot be served; None unless it has failed."""
    if status.states is None or status.states.targetModelState != State.FAILED:
        return None
    return status.lastFailureInfo


def _newest_first(live: Service | None, pods: Iterable[Pod]) -> list[Pod]:
    revision = live.status.latestCreatedRevisionName if live is not None else None
    mine = [pod for pod in pods if revision and pod.metadata.labels.get(REVISION_LABEL) == revision]
    staying = [pod for pod in mine if pod.metadata.deletionTimestamp is None]
    return sorted(staying, key=lambda pod: pod.metadata.creationTimestamp or "", reverse=True)


def _copies(pods: Iterable[Pod]) -> ModelCopies:
    ready = sum(pod.is_ready for pod in pods)
    return ModelCopies(failedCopies=0, totalCopies=ready) if ready else ModelCopies(failedCopies=0)


def _look(live: Service | None, pods: Sequence[Pod], uris: tuple[str, ...]) -> _Seen:
    if live is not None and not is_observed(live):  # Its revisions are those of an older specification.
        return _Seen(State.PENDING)
    if pods:
        seen = _look_at_pod(pods[0], uris)
        gave_up = seen.state is State.PENDING and live is not None and _given_up(live) is not None
        return _Seen(State.FAILED) if gave_up else seen
    if live is not None and any(item.status == FALSE for item in live.status.conditions):
        return _Seen(State.FAILED)
    return _Seen(State.PENDING)


def _serves_latest(live: Service | None) -> bool:
    if live is None:
        return False
    latest = live.status.latestReadyRevisionName
    return is_ready(live) and latest is not None and latest == live.status.latestCreatedRevisionName


def _look_at_pod(pod: Pod, uris: tuple[str, ...]) -> _Seen:
    if not pod.status.containerStatuses and not pod.status.initContainerStatuses:
        return _Seen(None)
    for status in pod.status.initContainerStatuses:
        if status.name == INITIALIZER and status.state.running is not None:
            return _look_at_retry(status, uris)
    retrying = False
    for status in (*pod.status.initContainerStatuses, *pod.status.containerStatuses):
        failure = _failure(status, uris) if status.name != _SIDECAR else None
        if failure is not None:
            return _Seen(State.FAILED, failure)
        retrying = retrying or (status.name != _SIDECAR and not status.ready and _failure_before(status) is not None)
    return _Seen(None) if retrying else _Seen(State.PENDING)


def _look_at_retry(status: ContainerStatus, uris: tuple[str, ...]) -> _Seen:
    """An initializer that runs, perhaps again: what it said last stands until it says something else."""
    ended = _failure_before(status)
    if ended is None:
        return _Seen(State.LOADING)
    # It is restarted so soon after its first failure that nobody may have seen it ended. One without words was killed.
    return _Seen(State.FAILED, _load_failure(status.name, ended, uris)) if ended.message.strip() else _Seen(None)


def _failure(status: ContainerStatus, uris: tuple[str, ...]) -> FailureInfo | None:
    waiting = status.state.waiting
    if waiting is not None and waiting.reason in _IMAGE_REASONS:
        message = waiting.message or f"container {status.name} waits: {waiting.reason}"
        return FailureInfo(reason=RUNTIME_UNHEALTHY, message=message)
    ended = status.state.terminated
    if ended is None and waiting is not None and waiting.reason == _CRASH_LOOP:
        ended = _failure_before(status) or ContainerStateTerminated(exitCode=1)
    if ended is None or ended.exitCode == 0:
        return None
    return _load_failure(status.name, ended, uris)


def _load_failure(container: str, ended: ContainerStateTerminated, uris: tuple[str, ...]) -> FailureInfo:
    message = _last_words(container, ended)
    if container == INITIALIZER and uris and "://" not in message and not any(uri in message for uri in uris):
        message = f"{', '.join(uris)}: {message}"
    return FailureInfo(reason=MODEL_LOAD_FAILED, message=message, exitCode=ended.exitCode)


def _failure_before(status: ContainerStatus) -> ContainerStateTerminated | None:
    ended = status.lastState.terminated
    return ended if ended is not None and ended.exitCode != 0 else None


def _last_words(name: str, ended: ContainerStateTerminated) -> str:
    if ended.message.strip():
        return ended.message.strip()
    if ended.reason == "OOMKilled":
        return f"container {name} was killed since it used more memory than its limit"
    return f"container {name} ended with exit code {ended.exitCode} and said nothing; see its log"


def _failure_of(
    live: Service | None, pods: Sequence[Pod], seen: _Seen, before: FailureInfo | None, state: State
) -> FailureInfo | None:
    """What is wrong with the newest revision: what its pod says, has said, or else what Knative says."""
    revision = live.status.latestCreatedRevisionName if live is not None else None
    if seen.failure is not None:
        return seen.failure.replace(modelRevisionName=revision) if revision else seen.failure
    known = _still_relevant(before, state, revision)
    if known is not None or state is not State.FAILED or live is None:
        return known
    return _never_ready(live, pods)


def _still_relevant(failure: FailureInfo | None, state: State, revision: str | None) -> FailureInfo | None:
    """A failure to load stays visible until the model is loaded; what was wrong with an older spec or revision does not."""
    if failure is None or state is State.LOADED or failure.reason in _SPEC_REASONS:
        return None
    return None if failure.modelRevisionName not in (None, revision) else failure


def _given_up(live: Service) -> Condition | None:
    """What Knative says of a newest revision that it does not wait for any longer; None while it does."""
    said, revision = live.status.condition(_CONFIGURATIONS_READY), live.status.latestCreatedRevisionName
    # One that is ready stays so: then no further revision could be made.
    failed_one = revision and revision != live.status.latestReadyRevisionName
    return said if failed_one and said is not None and said.status == FALSE else None


def _never_ready(live: Service, pods: Sequence[Pod]) -> FailureInfo | None:
    """A revision that Knative gave up, with what to do about it."""
    said, revision = _given_up(live), live.status.latestCreatedRevisionName
    if said is None:
        return None
    text = (said.message or said.reason or "").strip().rstrip(".")
    deaf = next((item.name for pod in pods[:1] for item in pod.status.containerStatuses if _is_deaf(item)), None)
    namespace = live.metadata.namespace
    words = f"revision {revision} does not become ready: {text}. "
    if deaf is None:  # Knative takes away the pods of a revision that it gave up.
        words += f"`kubectl describe revision -n {namespace} {revision}` tells more"
    else:
        logs = f"kubectl logs -n {namespace} {pods[0].metadata.name} -c {deaf}"
        words += f"Container {deaf} runs, but its readiness probe does not succeed: see `{logs}`"
    if deaf is not None or any(word in text for word in _TIMED_OUT):
        limit = live.spec.template.metadata.annotations.get(_DEADLINE_ANNOTATION)
        now = f" (now {limit})" if limit else ""
        words += (
            f"; mend the server or its readinessProbe, or give it longer by the annotation {_DEADLINE_ANNOTATION}{now}"
        )
    return FailureInfo(reason=RUNTIME_UNHEALTHY, message=words, modelRevisionName=revision)


def _is_deaf(status: ContainerStatus) -> bool:
    return status.name != _SIDECAR and status.state.running is not None and not status.ready
