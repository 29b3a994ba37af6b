"""The same requests as were sent to the real Istio, to our Envoy, with our translation: the same answers."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.onebox.istio.envoy import Answer, Driver, Envoy, ask, client, driving
from tests.onebox.istio.objects import NAMESPACE, destination_rule, endpoints, service, virtual_service
from tests.onebox.istio.servers import Backend, running_backends
from tests.waiting import eventually

RECORDINGS = Path(__file__).parents[3] / "../shared/golden/istio/virtualservice.yaml"
NOT_EQUAL: Mapping[str, str] = {}
"""Cases that are answered differently here, and why."""
ONE_MORE_CALL: Mapping[str, str] = {
    "timeout-with-retries": "three pauses between tries, of 0 to 175 ms by chance, decide whether a fourth fits into 1 s",
}
VOLATILE = {
    "x-request-id",
    "x-forwarded-for",
    "content-length",
    "accept",
    "accept-encoding",
    "user-agent",
    "connection",
}
KEPT_OF_ENVOY = {"x-envoy-external-address", "x-envoy-original-host"}
SECONDS_TOLERANCE = 0.4


def cases() -> dict[str, Any]:
    return yaml.safe_load(RECORDINGS.read_text()) if RECORDINGS.exists() else {}


@asynccontextmanager
async def services() -> AsyncIterator[tuple[dict[str, Backend], list[dict[str, Any]], list[dict[str, Any]]]]:
    """What the recording had: `v` with two endpoints, `empty` without any."""
    async with running_backends("a", "b", "c", "v1", "v2") as backends:
        ports = {name: [backends[name].port] for name in ("a", "b", "c")}
        ports |= {"v": [backends["v1"].port, backends["v2"].port], "empty": []}
        yield backends, [service(name) for name in ports], [endpoints(name, found) for name, found in ports.items()]


@pytest.mark.skipif(not RECORDINGS.exists(), reason="the recordings of Istio are not here")
@pytest.mark.parametrize("name", sorted(cases()))
async def test_requests_are_answered_as_by_istio(name: str, envoy: Envoy) -> None:
    if name in NOT_EQUAL:
        pytest.skip(NOT_EQUAL[name])
    case = cases()[name]
    async with services() as (backends, known, pods), driving(envoy) as driver, client() as session:
        install(driver, known, pods)
        await driver_applies(driver, session, name, case["spec"])
        for request in case["requests"]:
            if "times" in request:
                await check_shares(session, envoy, name, request)
            else:
                await check_answer(session, envoy, name, request, backends)


def install(driver: Driver, known: list[dict[str, Any]], pods: list[dict[str, Any]]) -> None:
    driver.set("service", *known)
    driver.set("endpoints", *pods)
    for number, version in enumerate(("one", "two")):
        driver.translation.set_pod((NAMESPACE, f"v-{number}"), {"version": version})
    subsets = [{"name": version, "labels": {"version": version}} for version in ("one", "two")]
    driver.set("rule", destination_rule("v", {"host": "v.golden.svc.cluster.local", "subsets": subsets}))


async def driver_applies(driver: Driver, session: aiohttp.ClientSession, name: str, spec: Mapping[str, Any]) -> None:
    """A VirtualService behind the one in question: once that is in force, so is the one before it."""
    driver.set("virtual_service", virtual_service(name, spec))
    marker = {"hosts": [f"marker-{name}.example.com"], "http": [{"directResponse": {"status": 200}}]}
    await driver.set_and_wait(virtual_service(f"marker-{name}", marker))
    assert (await ask(session, driver.envoy, f"marker-{name}.example.com")).status == 200


async def check_answer(
    session: aiohttp.ClientSession,
    envoy: Envoy,
    name: str,
    request: Mapping[str, Any],
    backends: Mapping[str, Backend],
) -> None:
    for backend in backends.values():
        backend.seen.clear()
        backend.failures.clear()
    started_s = time.monotonic()
    answer = await send(session, envoy, name, request)
    took_s = time.monotonic() - started_s
    assert answer.status == request["status"]
    assert comparable(answer.headers) == request["answer_headers"]
    assert body_of(answer) == request["answer"]
    assert took_s == pytest.approx(request["seconds"], abs=SECONDS_TOLERANCE)
    wanted: dict[str, int] = request["service_calls"]
    total = sum(wanted.values())

    async def all_arrived() -> bool:
        return sum(calls(backends).values()) >= total

    await eventually("copies arrive, after the answer", all_arrived)
    extra = {service: count + 1 for service, count in wanted.items()} if name in ONE_MORE_CALL else wanted
    assert calls(backends) in (wanted, extra)
    answering = answer.headers.get("x-from")
    others = [saw_of(saw) for found in backends.values() if found.name != answering for saw in found.seen]
    assert others == request.get("others_saw", [] if answering else others)


async def check_shares(session: aiohttp.ClientSession, envoy: Envoy, name: str, request: Mapping[str, Any]) -> None:
    """Shares by chance: within five standard deviations of what was recorded, each side with its own chance."""
    answers: Counter[str] = Counter()
    for _ in range(request["times"]):
        answers[(await send(session, envoy, name, request)).headers["x-from"]] += 1
    for backend, recorded in request["answers"].items():
        share = recorded / request["times"]
        deviation = math.sqrt(2 * request["times"] * share * (1 - share))
        assert answers[backend] == pytest.approx(recorded, abs=5 * deviation)


async def send(session: aiohttp.ClientSession, envoy: Envoy, name: str, request: Mapping[str, Any]) -> Answer:
    method, path = request["request"].split(" ", 1)
    headers = dict(request.get("headers", {}))
    host = headers.pop("Host", f"{name}.example.com")
    return await ask(session, envoy, host, path=path, method=method, headers=headers)


def calls(backends: Mapping[str, Backend]) -> dict[str, int]:
    return {name: len(backend.seen) for name, backend in backends.items() if backend.seen}


def comparable(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers that the recording has too: what is the same in every answer (date, server, length) was left out."""
    left_out = VOLATILE | {"date", "server", "transfer-encoding"}
    kept = {name: value for name, value in headers.items() if name not in left_out and not name.startswith("x-envoy-")}
    if "content-type" in kept:
        kept["content-type"] = kept["content-type"].partition(";")[0]
    return kept


def body_of(answer: Answer) -> object:
    text = answer.body.decode()
    return saw_of(json.loads(text)) if text.startswith("{") else text


def saw_of(saw: Mapping[str, Any]) -> dict[str, Any]:
    headers = {
        name: value
        for name, value in saw["headers"].items()
        if name not in VOLATILE and (not name.startswith("x-envoy-") or name in KEPT_OF_ENVOY)
    }
    return {**saw, "headers": headers}


def test_every_recorded_case_is_accounted_for() -> None:
    if not RECORDINGS.exists():
        pytest.skip("the recordings of Istio are not here")
    assert {*NOT_EQUAL, *ONE_MORE_CALL} <= set(cases())
