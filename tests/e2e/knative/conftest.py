"""The box of a module, as Knative's objects."""

from __future__ import annotations

import pytest

from tests.e2e.box import Box
from tests.e2e.knative.serving import Serving


@pytest.fixture(scope="module")
def serving(box: Box) -> Serving:
    return Serving(box)
