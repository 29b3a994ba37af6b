"""Object stores have no directories: which keys are "below" a path, and what each is called there. (pure)

A path ends at a slash: `models/a` is the object `models/a` and all below `models/a/`, never `models/ab`. KServe compares
the beginning of the text only, and so fetches `models/ab` as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtimes.storage.uri import BadUri, StorageUri


@dataclass(frozen=True, slots=True)
class Place:
    """A path in a bucket; "" as `path` is the whole bucket."""

    bucket: str
    path: str
    is_directory: bool
    """Whether the URI ends in a slash (or names no path), so that it cannot mean a single object."""

    @property
    def below(self) -> str:
        """How the keys below the path begin."""
        return f"{self.path}/" if self.path else ""

    def relative(self, key: str) -> str | None:
        """What an object is called below this path; None where it is elsewhere, or only marks a directory.

        >>> Place("bucket", "a/b", False).relative("a/b/c/d"), Place("bucket", "a/b", False).relative("a/bc")
        ('c/d', None)
        """
        if key.endswith("/"):
            return None
        if key == self.path and not self.is_directory:
            return key.rpartition("/")[2]
        if key.startswith(self.below):
            return key.removeprefix(self.below)
        return None

    def __str__(self) -> str:
        return f"{self.path or '/'} in bucket {self.bucket}"


def parse_place(uri: StorageUri) -> Place:
    """Bucket and path of `scheme://bucket/path`; BadUri where it names no bucket."""
    bucket, _, path = uri.location.partition("://")[2].partition("/")
    if not bucket:
        raise BadUri(f"no bucket in the URI, expected {uri.scheme}://BUCKET/PATH")
    return Place(bucket, path.strip("/"), is_directory=not path or path.endswith("/"))
