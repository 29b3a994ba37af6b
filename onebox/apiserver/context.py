"""What handlers share: one object per server, and what is known about the request at hand."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from controller.base.clock import Clock
from onebox.apiserver.admission import Admissions
from onebox.apiserver.discovery import Discovery
from onebox.apiserver.objects.deletion import Deleter
from onebox.apiserver.objects.writing import Writer
from onebox.apiserver.openapi import OpenApi
from onebox.apiserver.pages import Pages
from onebox.apiserver.request_counts import RequestCounts
from onebox.apiserver.resources.registry import Registry
from onebox.apiserver.storage.store import Store
from onebox.apiserver.watches import WatchHub
from onebox.home import Home


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The parts of one API server."""

    home: Home
    clock: Clock
    rng: random.Random
    store: Store
    registry: Registry
    watches: WatchHub
    admissions: Admissions
    writer: Writer
    deleter: Deleter
    discovery: Discovery
    openapi: OpenApi
    pages: Pages = field(default_factory=Pages)
    counts: RequestCounts = field(default_factory=RequestCounts)
