"""What a template imports before it forks storage initializers; all of it the standard library's."""

import importlib

for module in (
    "runtimes.storage.__main__",
    "runtimes.storage.local",
    "runtimes.storage.archive",
    "runtimes.storage.fetching",
    "runtimes.storage.web",
):
    importlib.import_module(module)
