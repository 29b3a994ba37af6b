"""Models that are Python code: a `ladle.Model` or a `kserve.Model` of the user's own. It runs that code."""
