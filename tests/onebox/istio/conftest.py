"""One Envoy for each test module; tests use hosts of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.onebox.istio.envoy import Envoy, running_envoy


@pytest.fixture(scope="module")
def envoy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    with running_envoy(tmp_path_factory.mktemp("gateway") / "a home") as running:
        yield running
