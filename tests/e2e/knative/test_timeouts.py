"""F5, F6: the three timeouts of a revision, in Knative's own lengths."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.knative.asking import Answer, ask
from tests.e2e.knative.serving import Serving, container, service, template

pytestmark = [pytest.mark.e2e, pytest.mark.long]

CASES = {
    "within the timeout": ({"timeoutSeconds": 10}, (2_000, 0), 200),
    "past the timeout": ({"timeoutSeconds": 10}, (12_000, 0), 504),
    "past the timeout after the first byte": ({"timeoutSeconds": 10}, (0, 15_000), 200),
    "starts in time": ({"timeoutSeconds": 10, "responseStartTimeoutSeconds": 7}, (4_000, 0), 200),
    "starts too late": ({"timeoutSeconds": 20, "responseStartTimeoutSeconds": 7}, (15_000, 0), 504),
    "idle, but not for long": ({"timeoutSeconds": 10, "idleTimeoutSeconds": 5}, (0, 2_000), 200),
    "idle for too long": ({"timeoutSeconds": 15, "idleTimeoutSeconds": 7}, (20_000, 0), 504),
}
"""What: limits of the revision, milliseconds before the first byte and after it, status."""


@pytest.fixture(scope="module")
def answers(serving: Serving) -> dict[str, Answer]:
    """The answer of each case; all at once, since they are made of waiting."""
    limits = [limits for limits, _, _ in CASES.values()]
    names = {case: f"timeout-{limits.index(found)}" for case, (found, _, _) in CASES.items()}
    for case, (found, _, _) in CASES.items():
        serving.apply(service(names[case], template(container("timeout"), **found)))
    urls = {case: serving.ready("service", name)["status"]["url"] for case, name in names.items()}
    for url in urls.values():
        assert ask(url).status == 200
    with ThreadPoolExecutor(len(CASES)) as threads:
        asked = {
            case: threads.submit(ask, urls[case], f"/?initialTimeout={first_ms}&timeout={rest_ms}")
            for case, (_, (first_ms, rest_ms), _) in CASES.items()
        }
    return {case: future.result() for case, future in asked.items()}


@pytest.mark.parametrize("case", CASES)
def test_a_timeout_ends_what_takes_too_long_and_nothing_else(answers: dict[str, Answer], case: str) -> None:
    _, (_, rest_ms), status = CASES[case]
    answer = answers[case]
    assert answer.status == status
    if status == 504:
        assert answer.body.strip() == "request timeout"
    elif rest_ms < 15_000:
        assert answer.body == f"Slept for {rest_ms} milliseconds"
    else:
        assert "Slept" not in answer.body
