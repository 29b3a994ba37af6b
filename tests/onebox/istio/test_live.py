from __future__ import annotations

from pathlib import Path

from onebox.home import Home
from onebox.istio.live import LiveConfig, VersionId, live_config


def version(generation: int, uid: str = "u") -> VersionId:
    return VersionId(namespace="ns", name="x", uid=uid, generation=generation)


def stored(generation: int, uid: str = "u") -> dict[str, object]:
    return {"metadata": {"namespace": "ns", "name": "x", "uid": uid, "generation": generation}}


def test_an_older_generation_is_in_force_as_well_and_a_newer_is_not() -> None:
    live = LiveConfig()
    assert not live.is_live(stored(1))
    live.accept(version(2))
    assert [live.is_live(stored(generation)) for generation in (1, 2, 3)] == [True, True, False]
    assert not live.is_live(stored(1, uid="another of the same name"))
    live.forget("u")
    assert not live.is_live(stored(1))


def test_a_refusal_is_about_one_generation() -> None:
    live = LiveConfig()
    live.accept(version(1))
    live.refuse(version(2), "why")
    assert (live.refusal_of("u", 1), live.refusal_of("u", 2), live.generation_of("u")) == ("", "why", 1)
    live.accept(version(3))
    assert live.refusal_of("u", 2) == ""


def test_whoever_asked_is_told() -> None:
    live, heard = LiveConfig(), list[tuple[str, str]]()
    live.subscribe(lambda namespace, name: heard.append((namespace, name)))
    live.accept(version(1))
    live.refuse(version(2), "why")
    assert heard == [("ns", "x")] * 2


def test_writer_and_reader_of_a_home_meet() -> None:
    assert live_config(Home(Path("/a"))) is live_config(Home(Path("/a")))
    assert live_config(Home(Path("/a"))) is not live_config(Home(Path("/b")))
