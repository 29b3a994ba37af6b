"""What a template imports before it forks storage initializers; all of it the standard library's."""

import importlib

for module in (
    "runtimes.storage.__main__",
    "runtimes.storage.local",
    "runtimes.storage.web",
    "runtimes.storage.archive",
):
    importlib.import_module(module)
